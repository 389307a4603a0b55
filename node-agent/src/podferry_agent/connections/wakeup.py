"""Window updates of our own, repeated until the peer answers.

A peer that has seen a zero window waits for an update or for its own persist timer, which may be seconds away. The
kernel sends none on its own account, and the probe it sends when repair mode ends does not open a window, so we send
the acknowledgement that the kernel would: next sequence numbers, real window, timestamps.

A peer with nothing to send owes no answer to that. It does owe one to a segment just below what it expects (RFC 9293,
3.10.7.4: acknowledge and drop), as in a keep-alive. Such a probe therefore goes with every repetition: silence then
means that nobody is there (Linux answers one probe per connection in 500 ms: shorter silence means nothing).
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from podferry.tcp import sequence, snapshot, state
from podferry_agent.connections import audit, find, repair, tcp_info
from podferry_agent.net import segments

REPEAT_SECONDS = (0.01, 0.05, 0.2, 0.6, 1.2, 2.4, 5.0)
"""When, after the first, updates are sent again to who has not answered."""
ENDED = "closed: ended by its process or its peer after the resume"
_LOOK_SECONDS = 0.002


@dataclass(slots=True)
class Announcement:
    """A connection whose window is to be announced."""

    connection: socket.socket
    flow: segments.Flow
    snd_nxt: int
    rcv_nxt: int
    window: int
    """In the header: scaled."""
    timestamps: bool
    segs_in: int
    """Segments seen before the announcement."""
    audit: audit.ConnectionAudit
    visitor: find.Visitor | None = None
    """Instead of `connection`, once that is closed."""

    def let_go(self, holder: find.Holder) -> None:
        """Keep the socket open no longer; from now on it is visited where its process holds it."""
        self.visitor = find.Visitor(holder, self.connection)
        self.connection.close()

    @contextlib.contextmanager
    def opened(self, duplicator: find.Duplicator) -> Iterator[bool]:
        """Have `connection` usable for a moment; False when its process has closed it."""
        if self.visitor is None:
            yield True
            return
        found = self.visitor.visit(duplicator)
        if found is None:
            yield False
            return
        self.connection = found
        try:
            yield True
        finally:
            found.close()

    def send(self, sender: segments.Sender) -> None:
        """Send the acknowledgement that announces the window."""
        sender.send(self.flow, self.flow.segment(self.snd_nxt, self.rcv_nxt, self.window, self._clock()))
        self.audit.window_updates += 1

    def probe(self, sender: segments.Sender) -> None:
        """Send what the peer must answer."""
        below = sequence.add(self.snd_nxt, -1)
        sender.send(self.flow, self.flow.segment(below, self.rcv_nxt, self.window, self._clock()))

    def _clock(self) -> int:
        return repair.get_clock(self.connection) if self.timestamps else 0


def header_window(window: snapshot.Window, rcv_nxt: int, rcv_wscale: int) -> int:
    """Return the receive window as the kernel would put it into a header (tcp_select_window)."""
    size = max(0, sequence.distance(rcv_nxt, sequence.add(window.rcv_wup, window.rcv_wnd)))
    return min(size >> rcv_wscale, 0xFFFF)


def announce(sender: segments.Sender, announcements: Iterable[Announcement]) -> None:
    """Send each connection's window once."""
    for announcement in announcements:
        announcement.send(sender)


def settled(announcement: Announcement, seconds: float) -> bool:
    """Tell whether nothing more is to be done: the peer has answered, or the connection has ended. Notes which."""
    info = tcp_info.read(announcement.connection)
    if info.state == state.State.CLOSE:
        announcement.audit.fate = ENDED
    elif info.segs_in != announcement.segs_in:
        announcement.audit.answered_seconds = seconds
    else:
        return False
    return True


def insist(sender: segments.Sender, announcements: Iterable[Announcement], first: float, deadline: float) -> None:
    """Repeat what was announced at `first` until every peer has answered or `deadline` (both time.monotonic).

    Notes in each audit when its answer was seen.
    """
    waiting, due = list(announcements), [first + offset for offset in REPEAT_SECONDS]
    with find.Duplicator() as duplicator:
        while waiting:
            now = time.monotonic()
            repeat = bool(due) and now >= due[0]
            if repeat:
                due.pop(0)
            waiting = [one for one in waiting if not _attend(one, sender, duplicator, now - first, repeat=repeat)]
            if now >= deadline:
                return
            if waiting:
                time.sleep(_LOOK_SECONDS)


def _attend(
    announcement: Announcement, sender: segments.Sender, duplicator: find.Duplicator, seconds: float, *, repeat: bool
) -> bool:
    """Look at one connection, repeat its announcement if it is time; tell whether it needs no more."""
    with announcement.opened(duplicator) as there:
        if not there:
            announcement.audit.fate = ENDED
            return True
        if settled(announcement, seconds):
            return True
        if repeat:
            announcement.send(sender)
            announcement.probe(sender)
        return False
