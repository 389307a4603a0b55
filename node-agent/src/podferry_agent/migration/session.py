"""The agent-to-agent session as the source leads it: what `source` needs, whatever carries it (see agent.proto).

Every wait is bounded by a deadline in seconds of the monotonic clock, and ends at once when the session is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from podferry.wire import agent_pb2


class Session(Protocol):
    """One stream to the target agent, from before the freeze to the end.

    All methods raise Transient when the stream is lost, and what the target answered (RolledBack) when it failed.
    """

    def open(self, *, resume: bool) -> None:
        """Show the token; return when the target is ready."""

    def send_images(self, container: str, directory: Path, sent: Callable[[int], None], deadline: float) -> int:
        """Stream the image set of one container; return its bytes once the target has verified and stored it."""

    def restore(self, deadline: float) -> None:
        """Let the target restore all containers; return when their tasks stand stopped."""

    def prepare(self, connections: int, deadline: float) -> None:
        """Let the target lock its flows and find the sockets that wait to be rebuilt."""

    def send(self, batches: Iterator[bytes], deadline: float) -> None:
        """Stream what the target may already have of the connections while they are still alive here."""

    def rebuild(self, batches: Iterator[bytes], deadline: float) -> tuple[int, bytes]:
        """Stream the rest; return (count, digest) of what the target rebuilt and verified."""

    def commit(self) -> agent_pb2.Resumed:
        """Tell the target that it is decided; return when the tasks run there."""

    def audit(self) -> list[agent_pb2.ConnectionAudit]:
        """Return each connection's fate, once every peer has answered or the bound was reached."""

    def rollback(self, reason: str, message: str) -> None:
        """Tell the target to undo, as far as the stream still carries it; never raises."""

    def cancel(self) -> None:
        """End the stream at once; a wait in another thread raises Transient. Idempotent."""


SessionFactory = Callable[[agent_pb2.StartRequest], Session]
