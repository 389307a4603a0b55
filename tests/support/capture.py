"""What really went over the wire: tcpdump in a namespace, and a small reader of its file."""

from __future__ import annotations

import ipaddress
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from tests.support import netns

from podferry.tcp import sequence

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
_SNAPLEN = 128
REORDER_SECONDS = 0.005
"""Two processors may hand over the segments of one flow in the wrong order: a hole filled so soon is no loss."""
SETTLE_SECONDS = 0.05
"""A capture that has just begun may miss the first segments of one direction."""


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
        command = [*netns.Network.inside(where), "tcpdump", "-i", "eth0", "-n", "-U", "-s", str(_SNAPLEN)]
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
        _, complaint = self._popen.communicate()
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
    """What a capture shows of all its flows, each direction by itself."""

    resets: int = 0
    retransmitted: int = 0
    """Data segments that begin before the highest byte seen: sent again."""
    gaps: int = 0
    """Data segments that begin after the highest byte seen: something was lost before the capture."""
    zero_windows: int = 0
    """Flows whose server announced a zero window."""
    peer_first: int = 0
    """Flows whose client had to probe a closed window before the server opened it."""

    @property
    def clean(self) -> bool:
        """Whether nobody could have noticed anything but a pause."""
        return not (self.resets or self.retransmitted or self.gaps)


class _Direction:
    """One direction of a flow: how far it has got, and what is missing below."""

    def __init__(self, seq: int) -> None:
        self.end = seq
        self.holes: dict[int, tuple[int, float]] = {}

    def see(self, one: Segment, found: Findings) -> None:
        """Take the next segment that occupies sequence numbers."""
        end = sequence.add(one.seq, one.size + bool(one.flags & (SYN | FIN)))
        ahead = sequence.distance(self.end, one.seq)
        if ahead >= 0:
            if ahead:
                self.holes[self.end] = one.seq, one.time
            self.end = end
        elif self.holes.get(one.seq, (None, 0.0))[0] == end and one.time - self.holes[one.seq][1] < REORDER_SECONDS:
            del self.holes[one.seq]
        else:
            found.retransmitted += 1


def examine(segments: Iterator[Segment], server_port: int = 8000) -> Findings:
    """Read a capture."""
    found = Findings()
    directions: dict[tuple[tuple[str, int], tuple[str, int]], _Direction] = {}
    closed: dict[tuple[str, int], bool] = {}
    begin = 0.0
    for one in segments:
        begin = begin or one.time
        direction = directions.setdefault((one.source, one.destination), _Direction(one.seq))
        if one.flags & RST:
            found.resets += 1
        if one.source[1] == server_port:
            if not one.window and not closed.get(one.destination):
                found.zero_windows += 1
            closed[one.destination] = not one.window
        elif closed.get(one.source) and not one.size and sequence.distance(direction.end, one.seq) == -1:
            found.peer_first += 1
            closed[one.source] = False
        if one.size or one.flags & (SYN | FIN):
            direction.see(one, found)
    found.gaps = sum(
        time > begin + SETTLE_SECONDS for direction in directions.values() for _, time in direction.holes.values()
    )
    return found
