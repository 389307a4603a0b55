"""What crosses the wire between operator and agents and between agents: agent.proto and what is generated from it.

The .proto is the protocol's document. Generated files are checked against it by `make lint`; nothing is written by hand.
"""
