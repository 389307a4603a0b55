"""The client's loop: any number of connections, each with a conversation that decides what is said and what is right.

The driver knows sockets, pacing, gaps and endings; it knows no protocol. A conversation never touches a socket.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.lab.workloads import frames, results

BATCH = 262144
"""Most bytes moved on one connection before the next gets its turn."""

SAMPLE_SECONDS = 0.1
CONNECT_SECONDS = 10.0

REFUSED_SECONDS = 3.0
"""A service that has just been started may need a moment until it listens."""


class Conversation(Protocol):
    """What is said on one connection."""

    name: str
    watches_sending: bool
    """Progress is what can be sent; otherwise it is what arrives."""

    @property
    def settled(self) -> bool:
        """Whether everything owed so far has arrived, so that this side may close after `finish`."""

    def opening(self) -> bytes:
        """Return what is sent first."""

    def offer(self) -> bytes:
        """Return the next message, or nothing when none may be sent before something arrives."""

    def feed(self, data: bytes) -> None:
        """Verify what came; raises frames.Corrupt."""

    def finish(self) -> None:
        """Begin to end: nothing new is sent any more."""

    def end(self) -> None:
        """Verify that the stream may end here; raises frames.Corrupt."""


@dataclass(slots=True)
class Plan:
    """How to drive: `pace` in seconds between the messages of one connection (0: as fast as it goes)."""

    address: tuple[str, int]
    pace: float
    stop: Callable[[], bool]
    drain: float = 60.0
    """Seconds that outstanding answers get after `stop` before the connection counts as stalled."""
    progress: Callable[[results.Progress], None] | None = None


@dataclass(slots=True, eq=False)
class _Link:
    sock: socket.socket
    conversation: Conversation
    record: results.Connection
    out: memoryview = field(default_factory=lambda: memoryview(b""))
    last: float = 0.0
    due: bool = False
    shut: bool = False
    open: bool = True
    events: int = selectors.EVENT_READ


def connect(address: tuple[str, int], timeout: float = CONNECT_SECONDS) -> socket.socket:
    """Return a blocking connection to `address`; refusals are forgiven for `REFUSED_SECONDS`."""
    patience = time.monotonic() + REFUSED_SECONDS
    while True:
        try:
            sock = socket.create_connection(address, timeout)
        except ConnectionRefusedError:
            if time.monotonic() > patience:
                raise
            time.sleep(0.05)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock


class Driver:
    """Connects every conversation, runs until the plan says stop, then lets each one end properly."""

    def __init__(self, plan: Plan, conversations: Sequence[Conversation]) -> None:
        self.plan = plan
        self.series: list[results.Sample] = []
        self._selector = selectors.DefaultSelector()
        self._finishing = False
        self._sent = self._received = 0
        self._sampled = (0.0, 0, 0)
        self._links = [self._open(conversation) for conversation in conversations]
        now = time.time()
        self._due = [(now + plan.pace * i / len(self._links), i) for i in range(len(self._links))]

    def run(self) -> list[results.Connection]:
        """Drive to the end and return what each connection saw; only a failure to connect is raised."""
        deadline = float("inf")
        while any(link.open for link in self._links) and time.time() < deadline:
            if not self._finishing and self.plan.stop():
                self._finishing = True
                deadline = time.time() + self.plan.drain
                for link in self._links:
                    link.conversation.finish()
                    self._turn(link, 0)
            self._make_due()
            for key, events in self._selector.select(self._patience()):
                self._turn(key.data, events)
            self._sample()
        for link in self._links:
            if link.open:
                self._fail(link, "stalled", f"nothing for {time.time() - link.last:.1f} s, the end never came")
        self._selector.close()
        return [link.record for link in self._links]

    def _open(self, conversation: Conversation) -> _Link:
        sock = connect(self.plan.address)
        sock.setblocking(False)
        local, peer = (f"{name[0]}:{name[1]}" for name in (sock.getsockname(), sock.getpeername()))
        link = _Link(sock, conversation, results.Connection(conversation.name, local, peer), last=time.time())
        link.out = memoryview(conversation.opening())
        self._selector.register(sock, selectors.EVENT_READ, link)
        self._turn(link, 0)
        return link

    def _make_due(self) -> None:
        now = time.time()
        while self.plan.pace and not self._finishing and self._due[0][0] <= now:
            due, index = self._due[0]
            heapq.heapreplace(self._due, (max(due + self.plan.pace, now), index))
            link = self._links[index]
            link.due = True
            if link.open:
                self._turn(link, 0)

    def _patience(self) -> float:
        if not self.plan.pace or self._finishing:
            return 0.05
        return min(0.05, max(0.0, self._due[0][0] - time.time()))

    def _turn(self, link: _Link, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                self._read(link)
            if link.open:
                self._write(link)
        except frames.Corrupt as finding:
            self._fail(link, finding.kind, str(finding))
        except ConnectionResetError as error:
            self._fail(link, "reset", str(error))
        except TimeoutError as error:
            self._fail(link, "timeout", str(error))
        except OSError as error:
            self._fail(link, "network", str(error))

    def _read(self, link: _Link) -> None:
        try:
            data = link.sock.recv(BATCH)
        except BlockingIOError:
            return
        if data:
            link.record.received += len(data)
            self._received += len(data)
            if not link.conversation.watches_sending:
                self._progressed(link)
            link.conversation.feed(data)
            return
        link.conversation.end()
        if not link.shut:
            self._fail(link, "closed", "the server closed the connection before it was asked to")
            return
        self._close(link)

    def _write(self, link: _Link) -> None:
        written = 0
        while written < BATCH:
            if not link.out and not self._finishing and (link.due or not self.plan.pace):
                link.due = False
                link.out = memoryview(link.conversation.offer())
            if not link.out:
                break
            try:
                count = link.sock.send(link.out)
            except BlockingIOError:
                break
            link.out = link.out[count:]
            link.record.sent += count
            self._sent += count
            written += count
            if link.conversation.watches_sending:
                self._progressed(link)
        if self._finishing and not link.out and not link.shut and link.conversation.settled:
            link.sock.shutdown(socket.SHUT_WR)
            link.shut = True
        unfinished = link.out or written >= BATCH
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if unfinished else 0)
        if events != link.events:
            link.events = events
            self._selector.modify(link.sock, events, link)

    def _progressed(self, link: _Link) -> None:
        now = time.time()
        if now - link.last > link.record.gap.seconds:
            link.record.gap = results.Gap(now - link.last, link.last, now)
        link.last = now

    def _fail(self, link: _Link, kind: str, message: str) -> None:
        if not link.open:
            return
        link.record.failure = results.Failure(kind, message, time.time())
        self._close(link)

    def _close(self, link: _Link) -> None:
        link.open = False
        self._selector.unregister(link.sock)
        link.sock.close()

    def _sample(self) -> None:
        now = time.time()
        began, sent, received = self._sampled
        if now - began < SAMPLE_SECONDS:
            return
        if began:
            self.series.append(results.Sample(began, self._sent - sent, self._received - received))
        self._sampled = (now, self._sent, self._received)
        if self.plan.progress is not None:
            waiting = [now - link.last for link in self._links if link.open]
            failed = sum(link.record.failure is not None for link in self._links)
            longest = max(link.record.gap.seconds for link in self._links)
            quiet = max(waiting, default=0.0)
            self.plan.progress(
                results.Progress(len(self._links), failed, self._sent, self._received, quiet, max(longest, quiet))
            )
