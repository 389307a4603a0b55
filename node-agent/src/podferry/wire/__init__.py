"""What crosses the wire between operator and agents and between agents: agent.proto and what is generated from it.

The .proto is the protocol's document. `make lint` checks the generated files against it; none is written by hand.
"""
