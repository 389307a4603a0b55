"""Conversations with the sample service, and the comparison of both ends' counters afterwards."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.lab.workloads import driver, frames, results

ENDINGS = ("reset", "timeout", "closed", "network", "stalled")
"""Failures whose cause may be what the service found wrong."""


@dataclass(slots=True)
class Framed:
    """One stream in one of the frame modes. `size` is an echo's payload in bytes, `window` its frames in flight."""

    mode: str
    stream: int
    size: int = 200
    window: int = 8
    name: str = ""
    watches_sending: bool = False
    sender: frames.Sender = field(init=False)
    receiver: frames.Receiver = field(init=False)
    _history: Any = field(init=False, default_factory=hashlib.sha256)
    _owed: dict[int, bytes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.name = f"{self.mode} {self.stream}"
        self.watches_sending = self.mode == frames.SINK
        self.sender = frames.Sender(self.stream)
        self.receiver = frames.Receiver(self.stream, self._expect)

    @property
    def settled(self) -> bool:
        """Whether every echo has come; what a source pours ends only after this side has closed."""
        return not self._owed

    def opening(self) -> bytes:
        """Return the line that chooses the mode."""
        return f"{self.mode} {self.stream}\n".encode()

    def offer(self) -> bytes:
        """Return the next frame, unless the mode sends none or the window is full."""
        number = self.sender.frames
        if self.mode == frames.SOURCE or len(self._owed) >= self.window:
            return b""
        length = self.size if self.mode == frames.ECHO else frames.BULK_LENGTH
        payload = frames.pattern(self.stream, number, length)
        if self.mode == frames.ECHO:
            self._history.update(payload)
            self._owed[number] = frames.answer(self._history.digest(), length)
        return self.sender.frame(payload)

    def feed(self, data: bytes) -> None:
        """Verify what came."""
        if self.mode == frames.SINK:
            raise frames.Corrupt("changed", 0, "a sink sent something")
        self.receiver.feed(data)

    def finish(self) -> None:
        """Nothing has to be said: the driver half-closes the connection, and the service does the same."""

    def end(self) -> None:
        """Verify that the stream ended between frames and with nothing owed."""
        self.receiver.finish()
        if self._owed:
            raise frames.Corrupt("lost", self.receiver.received, f"{len(self._owed)} answers are still owed")

    def _expect(self, number: int, length: int) -> bytes:
        if self.mode != frames.ECHO:
            return frames.pattern(self.stream, number, length)
        try:
            return self._owed.pop(number)
        except KeyError:
            raise frames.Corrupt("misaligned", self.receiver.received, f"answer {number} has no question") from None


def stat(address: tuple[str, int], timeout: float = 20.0) -> dict[str, Any]:
    """Ask the service which process it is and what it counted.

    Raises:
        OSError: it does not answer within `timeout` seconds.
    """
    with driver.connect(address, timeout) as sock, sock.makefile("rb") as lines:
        sock.settimeout(timeout)
        sock.sendall(b"stat\n")
        sock.shutdown(socket.SHUT_WR)
        line = lines.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("the service closed before it had answered")
    report: dict[str, Any] = json.loads(line)
    return report


def compare(conversations: Iterable[Framed], records: Iterable[results.Connection], report: dict[str, Any]) -> None:
    """Hold both ends' bytes and chains against each other, in each direction; write the outcome into the records."""
    for conversation, record in zip(conversations, records, strict=True):
        theirs = report["streams"].get(str(conversation.stream), {"error": "", "ended": False})
        ours = {
            "received": conversation.sender.sent,
            "received_chain": conversation.sender.chain,
            "sent": conversation.receiver.received,
            "sent_chain": conversation.receiver.chain,
        }
        differ = [
            f"{key} {theirs.get(key)} there, {value} here" for key, value in ours.items() if theirs.get(key) != value
        ]
        if theirs["error"] and (record.failure is None or record.failure.kind in ENDINGS):
            earlier = f"; here {record.failure.kind}: {record.failure.message}" if record.failure else ""
            at = record.failure.at if record.failure else 0.0
            kind = theirs["error"].split()[0].rstrip(":")
            record.failure = results.Failure(kind, f"the service found {theirs['error']}{earlier}", at)
        elif record.failure is None and differ:
            record.failure = results.Failure("mismatch", ", ".join(differ))
        elif record.failure is None:
            record.compared = conversation.sender.sent + conversation.receiver.received
