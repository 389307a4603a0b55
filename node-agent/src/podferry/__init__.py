"""The vocabulary that operator and agent share: errors, ids, steps, TCP's model, the wire schema, fault points.

A name belongs here only if it crosses the wire, survives on disk, or must be computed the same way on both sides.
No I/O ever: nothing here opens a file, a socket or a clock by itself.
"""
