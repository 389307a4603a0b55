"""TCP's model in RFC 9293's words: four-tuples, sequence numbers, states, snapshots of a connection. No I/O here."""
