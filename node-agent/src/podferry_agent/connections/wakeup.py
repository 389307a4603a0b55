"""Window updates of our own, repeated until the peer answers.

A peer that has seen a zero window waits for an update or for its own persist timer, which may be seconds away. The
kernel sends none on its own account, and the probe it sends when repair mode ends does not open a window, so we send
the acknowledgement that the kernel would: next sequence numbers, real window, timestamps.

A peer with nothing to send owes no answer to that. It does owe one to a segment just below what it expects (RFC 9293,
3.10.7.4: acknowledge and drop), as in a keep-alive. Such a probe therefore goes with every repetition: silence then
means that nobody is there (Linux answers one probe per connection in 500 ms: shorter silence means nothing).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from podferry.tcp import sequence, snapshot
from podferry_agent.connections import audit, repair, tcp_info
from podferry_agent.net import segments

REPEAT_SECONDS = (0.01, 0.05, 0.2, 0.6, 1.2, 2.4, 5.0)
"""When, after the first, updates are sent again to who has not answered."""
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

    def send(self, sender: segments.Sender) -> None:
        """Send the acknowledgement that announces the window."""
        sender.send(self.flow, self.flow.segment(self.snd_nxt, self.rcv_nxt, self.window, self._clock()))
        self.audit.window_updates += 1

    def probe(self, sender: segments.Sender) -> None:
        """Send what the peer must answer."""
        below = sequence.add(self.snd_nxt, -1)
        sender.send(self.flow, self.flow.segment(below, self.rcv_nxt, self.window, self._clock()))

    def answered(self) -> bool:
        """Tell whether anything came from the peer since the announcement was made."""
        return tcp_info.read(self.connection).segs_in != self.segs_in

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


def insist(sender: segments.Sender, announcements: Sequence[Announcement], first: float, deadline: float) -> None:
    """Repeat what was announced at `first` until every peer has answered or `deadline` (both time.monotonic).

    Notes in each audit when its answer was seen.
    """
    waiting, due = list(announcements), [first + offset for offset in REPEAT_SECONDS]
    while True:
        now = time.monotonic()
        still = []
        for announcement in waiting:
            if announcement.answered():
                announcement.audit.answered_seconds = now - first
            else:
                still.append(announcement)
        waiting = still
        if not waiting or now >= deadline:
            return
        if due and now >= due[0]:
            due.pop(0)
            for announcement in waiting:
                announcement.send(sender)
                announcement.probe(sender)
        time.sleep(_LOOK_SECONDS)
