"""Proof that nothing is in flight in either direction, before the flows are locked.

Out: the kernel counts no unacknowledged segment; while the gate refuses data, none can be added.

In: after the zero window each peer gets a probe that it must answer (see `wakeup`). A path keeps the order of its
segments, so everything that the peer sent before is here when the answer is, and it sends nothing after it. The answer
carries no data; while data of ours was in flight an acknowledgement of it looks the same, so then a round trip must
pass in silence on top. A peer that may not answer (Linux: one probe per connection in 500 ms) counts as still when
nothing has come from it for four round trips, at least 20 ms.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from podferry.tcp import inventory, sequence
from podferry_agent.connections import taking, tcp_info
from podferry_agent.net import segments

_LOOK_SECONDS = 0.0005
_SILENCE_ROUND_TRIPS = 4
_SILENCE_SECONDS = 0.02


@dataclass(slots=True)
class _Watched:
    taken: taking.Taken
    bare_acks: int
    """Segments without data received before the probe."""
    outstanding: bool
    """Something of ours was in flight when the probe went out."""
    bytes_received: int
    changed: float
    """When bytes_received was last seen to change, time.monotonic."""


class Drain:
    """Announces the zero window on all connections, then watches them come to rest."""

    def __init__(self, sender: segments.Sender, taken: Sequence[taking.Taken]) -> None:
        """Announce; the gate closes the windows of all segments already."""
        self._watched = []
        for one in taken:
            info = tcp_info.read(one.socket)
            if info.state not in inventory.MOVABLE_STATES or one.head.four_tuple.loopback:
                continue
            snd_nxt, rcv_nxt, clock = one.snd_nxt(info), one.rcv_nxt(info), one.clock()
            sender.send(one.flow, one.flow.segment(snd_nxt, rcv_nxt, 0, clock))
            sender.send(one.flow, one.flow.segment(sequence.add(snd_nxt, -1), rcv_nxt, 0, clock))
            bare = info.segs_in - info.data_segs_in
            self._watched.append(_Watched(one, bare, info.unacked > 0, info.bytes_received, time.monotonic()))

    def wait(self, deadline: float) -> tuple[str, ...]:
        """Wait until every connection is at rest; return those that are not at `deadline` (time.monotonic)."""
        while True:
            self._watched = [watched for watched in self._watched if not _at_rest(watched)]
            if not self._watched:
                return ()
            if time.monotonic() >= deadline:
                return tuple(str(watched.taken.head.four_tuple) for watched in self._watched)
            time.sleep(_LOOK_SECONDS)


def _at_rest(watched: _Watched) -> bool:
    info = tcp_info.read(watched.taken.socket)
    now = time.monotonic()
    if info.state not in inventory.MOVABLE_STATES:
        return True
    if info.bytes_received != watched.bytes_received:
        watched.bytes_received, watched.changed = info.bytes_received, now
    if info.unacked:
        return False
    quiet, round_trip = now - watched.changed, info.rtt / 1e6
    if quiet >= max(_SILENCE_SECONDS, _SILENCE_ROUND_TRIPS * round_trip):
        return True
    if info.segs_in - info.data_segs_in == watched.bare_acks:
        return False
    return not watched.outstanding or quiet >= round_trip
