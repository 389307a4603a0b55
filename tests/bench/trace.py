"""The picture that explains the idea: how a stream into a pod goes on around a freeze, in each of the three ways."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.bench import net, results

FILE = results.FOLDER / "traces.json"
SECONDS, AROUND, PITCH = 2.0, 1.0, 0.02
"""Frozen for so long; shown before and after that; seconds between two points."""


def record(say: Callable[[str], None]) -> None:
    """Measure and keep (seconds since the freeze, kilobytes sent so far) for each way."""
    traces = {}
    for name, way in net.WAYS.items():
        say(f"a stream around a freeze of {SECONDS:g} s, {name}")
        seen = way("feed", SECONDS)
        begin, end = seen.frozen - AROUND, seen.resumed + 2.5 * AROUND
        points, total = [], 0
        due = begin
        for at, size in [*seen.stream.new_data(), (end, 0)]:
            while due <= min(at, end):
                points.append((round(due - seen.frozen, 3), total / 1e3))
                due += PITCH
            total += size if begin <= at < end else 0
        traces[name] = points
    results.FOLDER.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(traces))


def load() -> dict[str, list[tuple[float, float]]]:
    """Return what was recorded last; empty when nothing was."""
    found: dict[str, list[tuple[float, float]]] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found
