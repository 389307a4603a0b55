"""Time as a dependency: what needs it takes a Clock, tests pass a manual one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time, both in nanoseconds."""

    def wall(self) -> int:
        """Return nanoseconds since the Unix epoch: for people and other machines."""

    def monotonic(self) -> int:
        """Return nanoseconds that never go back: for durations on this machine."""


@dataclass
class ManualClock:
    """A clock that moves only when told."""

    now: int = 1_700_000_000_000_000_000

    def wall(self) -> int:
        """Return the current manual time."""
        return self.now

    def monotonic(self) -> int:
        """Return the current manual time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self.now += int(seconds * 1e9)
