"""How long a container that ended waits before it is started again: at once, then 10 s, doubling to 5 minutes. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

INITIAL = 10.0
LONGEST = 300.0


@dataclass
class _Entry:
    delay: float
    since: float


class Backoff:
    """Delays by key; `now` gives seconds since the epoch, since ends of containers are told in that."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._entries: dict[str, _Entry] = {}

    def remaining(self, key: str, ended: float) -> float:
        """Return how many seconds are left before what ended at `ended` may start again; 0 when it may."""
        entry = self._entries.get(key)
        if entry is None or self._forgiven(entry, ended):
            return 0.0
        return max(0.0, ended + entry.delay - self._now())

    def delay(self, key: str) -> float:
        """Return the present delay of `key`, in seconds."""
        entry = self._entries.get(key)
        return entry.delay if entry else 0.0

    def next(self, key: str, ended: float) -> None:
        """Say that what ended at `ended` is started again now: the next delay is longer."""
        entry = self._entries.get(key)
        if entry is None or self._forgiven(entry, ended):
            self._entries[key] = _Entry(INITIAL, self._now())
        else:
            self._entries[key] = _Entry(min(LONGEST, entry.delay * 2), self._now())

    @staticmethod
    def _forgiven(entry: _Entry, ended: float) -> bool:
        """What ran for long since the last delay starts with a clean slate."""
        return ended - entry.since > 2 * LONGEST
