"""What a capture says about one client that sends: when its stream went on, and how much new data it sent when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support import capture

from podferry.tcp import sequence


@dataclass(frozen=True, slots=True)
class Stream:
    """The segments of one flow, both directions, in the order of the capture."""

    segments: Sequence[capture.Segment]
    server_port: int = 8000

    def progress_after(self, moment: float) -> float:
        """Return the seconds from `moment` to the first segment that the server was waiting for; infinite if none came.

        What it waits for is what it acknowledged last before `moment` (CLOCK_REALTIME seconds).
        """
        wanted = None
        for one in self.segments:
            if one.source[1] == self.server_port and one.time < moment:
                wanted = one.ack
            elif one.destination[1] == self.server_port and one.size and one.time >= moment and wanted is not None:
                end = sequence.add(one.seq, one.size)
                if sequence.distance(one.seq, wanted) >= 0 and sequence.distance(wanted, end) > 0:
                    return one.time - moment
        return float("inf")

    def new_data(self) -> list[tuple[float, int]]:
        """Return (time, bytes) of the client's data; what is sent again counts once."""
        found: list[tuple[float, int]] = []
        highest: int | None = None
        for one in self.segments:
            if one.destination[1] == self.server_port and one.size:
                end = sequence.add(one.seq, one.size)
                new = one.size if highest is None else sequence.distance(highest, end)
                if new > 0:
                    highest = end
                    found.append((one.time, new))
        return found

    def sent(self, begin: float, end: float) -> int:
        """Return the bytes of new data in a time."""
        return sum(size for at, size in self.new_data() if begin <= at < end)
