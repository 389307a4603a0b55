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

from podferry.tcp import four_tuple, sequence, snapshot
from podferry_agent.connections import audit, repair, tcp_info
from podferry_agent.net import segments

REPEAT_SECONDS = (0.0, 0.01, 0.05, 0.2, 0.6, 1.2, 2.4, 5.0)
"""When, after the first, updates are sent again to who has not answered."""
_LOOK_SECONDS = 0.002


@dataclass(slots=True)
class Announcement:
    """A connection whose window is to be announced."""

    connection: socket.socket
    four_tuple: four_tuple.FourTuple
    snd_nxt: int
    rcv_nxt: int
    window: int
    """In the header: scaled."""
    timestamps: bool
    segs_in: int
    """Segments seen before the announcement."""
    audit: audit.ConnectionAudit

    def segment(self, *, probe: bool = False) -> segments.Segment:
        """Return the acknowledgement to send now, or the probe that must be answered."""
        return segments.Segment(
            self.four_tuple,
            sequence.add(self.snd_nxt, -1) if probe else self.snd_nxt,
            self.rcv_nxt,
            self.window,
            repair.ts_val(self.connection) if self.timestamps else None,
        )

    def answered(self) -> bool:
        """Tell whether anything came from the peer since the announcement was made."""
        return tcp_info.read(self.connection).segs_in != self.segs_in


def header_window(window: snapshot.Window, rcv_nxt: int, rcv_wscale: int) -> int:
    """Return the receive window as the kernel would put it into a header (tcp_select_window)."""
    size = max(0, sequence.distance(rcv_nxt, sequence.add(window.rcv_wup, window.rcv_wnd)))
    return min(size >> rcv_wscale, 0xFFFF)


def announce(sender: segments.Sender, announcements: Iterable[Announcement]) -> None:
    """Send each connection's window once."""
    for announcement in announcements:
        sender.send(announcement.segment())
        announcement.audit.window_updates += 1


def insist(
    sender: segments.Sender,
    announcements: Sequence[Announcement],
    first: float,
    deadline: float,
) -> None:
    """Repeat what was announced at `first` until every peer has answered or `deadline` (both time.monotonic).

    Notes in each audit when its answer was seen.
    """
    waiting = list(announcements)
    due = [first + offset for offset in REPEAT_SECONDS[1:]]
    while waiting and time.monotonic() < deadline:
        now = time.monotonic()
        still = []
        for announcement in waiting:
            if announcement.answered():
                announcement.audit.answered_seconds = now - first
            else:
                still.append(announcement)
        waiting = still
        if due and now >= due[0]:
            due.pop(0)
            announce(sender, waiting)
            for announcement in waiting:
                sender.send(announcement.segment(probe=True))
        if waiting:
            time.sleep(_LOOK_SECONDS)
