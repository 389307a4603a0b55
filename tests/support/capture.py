"""What really went over the wire: tcpdump in a namespace, and a small reader of its file."""

from __future__ import annotations

import bisect
import ipaddress
import struct
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from tests.support import netns

from podferry.tcp import sequence

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
_SNAPLEN = 128
PROBE_SECONDS = 1.0
"""A client whose window was closed by the dark probes it within this time (200 ms on Linux, doubling)."""


class Segment(NamedTuple):
    """One captured TCP segment."""

    time: float
    """Seconds, CLOCK_REALTIME."""
    source: tuple[str, int]
    destination: tuple[str, int]
    flags: int
    seq: int
    ack: int
    window: int
    """As in the header."""
    size: int
    """Bytes of data."""


class Capture:
    """Captures all TCP of the client's interface; a context manager. Read it after it has ended."""

    def __init__(self, where: str, file: Path) -> None:
        self._file = file
        command: list[str] = [*netns.Network.inside(where), "tcpdump", "-i", "eth0", "-n", "-U", "-s", str(_SNAPLEN)]
        self._popen = subprocess.Popen(
            [*command, "-B", "131072", "--time-stamp-precision=nano", "-w", str(file), "tcp"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._popen.stderr is not None
        for line in self._popen.stderr:
            if "listening on" in line:
                break

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.terminate()
        complaint = self._popen.communicate()[1]
        assert "0 packets dropped by kernel" in complaint, complaint

    def segments(self) -> Iterator[Segment]:
        """Yield the segments in the order of capture."""
        data = self._file.read_bytes()
        position = 24
        while position + 16 <= len(data):
            seconds, nanoseconds, size, _ = struct.unpack_from("=IIII", data, position)
            frame = data[position + 16 : position + 16 + size]
            position += 16 + size
            yield _segment(seconds + nanoseconds / 1e9, frame)


def _segment(time: float, frame: bytes) -> Segment:
    packet = frame[14:]
    if frame[12:14] == b"\x08\x00":
        header = (packet[0] & 15) * 4
        length, addresses = int.from_bytes(packet[2:4]) - header, packet[12:20]
    else:
        header, length, addresses = 40, int.from_bytes(packet[4:6]), packet[8:40]
    source_port, destination_port, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", packet, header)
    half = len(addresses) // 2
    return Segment(
        time,
        (str(ipaddress.ip_address(addresses[:half])), source_port),
        (str(ipaddress.ip_address(addresses[half:])), destination_port),
        flags,
        seq,
        ack,
        window,
        length - (offset >> 4) * 4,
    )


@dataclass
class Findings:
    """What a capture shows of all its flows.

    Two processors that share a virtual switch reorder a fast flow now and then, which costs a retransmission at any
    time.
    So only what was first sent, or went missing, while the network was dark counts against the move.
    """

    resets: int = 0
    retransmitted: int = 0
    """Data segments sent again that were first sent in the dark."""
    lost: int = 0
    """Holes in what arrived, of the dark."""
    background: int = 0
    """Retransmissions and holes of other times."""
    zero_windows: int = 0
    """Times that a server closed its window."""
    peer_first: int = 0
    """Flows whose client had to probe a window that was still closed after the dark."""

    @property
    def clean(self) -> bool:
        """Whether nobody could have noticed anything but a pause."""
        return not (self.resets or self.retransmitted or self.lost)


class _Direction:
    """One direction of a flow: when each byte was first seen, and what is missing."""

    def __init__(self, seq: int) -> None:
        self._highest = seq
        self._ends, self._times = [0], [0.0]
        self.holes: dict[int, tuple[int, float, float]] = {}
        """Position → where it ends, when its neighbours were seen."""

    def below(self, seq: int) -> bool:
        """Tell whether `seq` is one below what comes next: where probes stand."""
        return sequence.distance(self._highest, seq) == -1

    def see(self, one: Segment) -> float | None:
        """Take a segment that occupies sequence numbers; return when it was seen first if that is not now."""
        size = one.size + bool(one.flags & (SYN | FIN))
        start = self._ends[-1] + sequence.distance(self._highest, one.seq)
        if start < self._ends[-1]:
            if start in self.holes and self.holes.pop(start)[0] == start + size:
                return None
            return self._times[bisect.bisect_right(self._ends, start)]
        if start > self._ends[-1]:
            self.holes[self._ends[-1]] = start, self._times[-1], one.time
        self._ends.append(start + size)
        self._times.append(one.time)
        self._highest = sequence.add(one.seq, size)
        return None


def examine(segments: Iterable[Segment], dark: tuple[float, float], server_port: int = 8000) -> Findings:
    """Read a capture; `dark` is when the network was (CLOCK_REALTIME)."""
    found = Findings()
    directions: dict[tuple[tuple[str, int], tuple[str, int]], _Direction] = {}
    closed: dict[tuple[str, int], bool] = {}
    begin, end = dark
    for one in segments:
        direction = directions.setdefault((one.source, one.destination), _Direction(one.seq))
        found.resets += bool(one.flags & RST)
        if one.source[1] == server_port:
            client = one.destination
            found.zero_windows += not one.window and not closed.get(client)
            closed[client] = not one.window
        elif closed.get(one.source) and end < one.time < end + PROBE_SECONDS and direction.below(one.seq):
            found.peer_first += not one.size
            closed[one.source] = False
        if one.size or one.flags & (SYN | FIN):
            first = direction.see(one)
            if first is not None:
                inside = begin <= first <= end
                found.retransmitted += inside
                found.background += not inside
    for direction in directions.values():
        for _, before, after in direction.holes.values():
            inside = before <= end and after >= begin and before > 0
            found.lost += inside
            found.background += not inside
    return found
