"""What became of each connection, as it is told to people."""

from __future__ import annotations

from dataclasses import dataclass

from podferry.tcp import four_tuple, state
from podferry.wire import agent_pb2


@dataclass(slots=True)
class ConnectionAudit:
    """One connection after the resume (or after an undo)."""

    four_tuple: four_tuple.FourTuple
    state: state.State
    bytes_queued: int = 0
    """In both queues when it was cut."""
    window_updates: int = 0
    """Segments of our own that announced its window."""
    answered_seconds: float = 0.0
    """From the first announcement until a segment of the peer was seen; 0: none was."""
    fate: str = "kept"
    """"kept", or "closed: <why>"."""

    def to_wire(self) -> agent_pb2.ConnectionAudit:
        """Return it as a message of the protocol."""
        local, peer = str(self.four_tuple).split()
        return agent_pb2.ConnectionAudit(
            local=local,
            peer=peer,
            state=self.state.name,
            fate=self.fate,
            bytes_queued=self.bytes_queued,
            window_updates=self.window_updates,
            answered_seconds=self.answered_seconds,
        )
