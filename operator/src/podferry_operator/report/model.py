"""What the page draws, as numbers: where bars and bands lie on the migration's time, in percent of its width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podferry import steps
from podferry_operator.api import durations, times

MARGIN = 0.04
"""Share of the throughput chart's time shown before the freeze and after the resume, at least `AROUND_SECONDS`."""

AROUND_SECONDS = 2.0

HEIGHT = 88
"""Percent of the chart's height that the highest rate takes; above it stands its figure."""

BINS, BIN_SECONDS = 60, 0.2
"""Intervals of the throughput chart, and the shortest one: clients count their bytes ten times a second."""

_SERVES = {steps.Step.REQUESTED, steps.Step.PREFLIGHT, steps.Step.PREPARE, steps.Step.CLEANUP}
_DARK = {steps.Step.CUT, steps.Step.COMMIT}


@dataclass(frozen=True, slots=True)
class Point:
    """Bytes that clients sent or received in the `seconds` from `at` (seconds since the epoch)."""

    at: float
    seconds: float
    count: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a person asks for first."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of time; `left` and `width` in percent."""

    kind: str
    """"frozen", "dark" or "serves"."""
    left: float
    width: float
    label: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of seconds since the epoch."""

    begin: float
    end: float

    def band(self, within: Span, kind: str, label: str = "", note: str = "") -> Band:
        """Return where it lies within another one, cut off at its ends."""
        whole = max(within.end - within.begin, 1e-9)
        begin, end = max(self.begin, within.begin), min(self.end, within.end)
        return Band(kind, 100 * (begin - within.begin) / whole, max(100 * (end - begin) / whole, 0.0), label, note)


@dataclass(frozen=True, slots=True)
class Chart:
    """Throughput over time: `line` is an SVG path in a box of 100 by 100, `peak` in bytes a second."""

    line: str
    bands: Sequence[Band]
    peak: str
    seconds: float


def whole(status: Mapping[str, Any]) -> Span | None:
    """Return the time from the first step to the end of the last; None before the first."""
    timings = status.get("timings", ())
    begins = [times.parse(timing["startedAt"]) for timing in timings]
    ends = [begin + timing.get("seconds", 0.0) for begin, timing in zip(begins, timings, strict=True)]
    return Span(min(begins), max(ends)) if begins else None


def frozen(status: Mapping[str, Any]) -> Span | None:
    """Return when the pod's processes stood still: until the connections were unlocked, when they are released.

    The step Freeze begins earlier, with new connections held while the pod accepts those that it has.
    """
    locked = dark(status)
    if locked is None or "freezeSeconds" not in status:
        return None
    return Span(locked.end - status["freezeSeconds"], locked.end)


def dark(status: Mapping[str, Any]) -> Span | None:
    """Return when the connections were locked on both sides."""
    begin, dead = _began(status, steps.Step.CUT), status.get("connections", {}).get("deadTimeMs")
    return None if begin is None or dead is None else Span(begin, begin + dead / 1000)


def timeline(status: Mapping[str, Any]) -> list[Band]:
    """Return a bar for each step, in order."""
    span = whole(status)
    if span is None:
        return []
    bars = []
    for timing in status["timings"]:
        begin, seconds = times.parse(timing["startedAt"]), timing.get("seconds", 0.0)
        label, note = timing["step"], durations.display(seconds) if seconds else ""
        bars.append(Span(begin, begin + seconds).band(span, _kind(label), label, note))
    return bars


def shadows(status: Mapping[str, Any], within: Span) -> list[Band]:
    """Return the bands that lie behind bars and lines: when the pod stood still, and when its connections were dark."""
    spans = (("frozen", frozen(status)), ("dark", dark(status)))
    return [span.band(within, kind) for kind, span in spans if span is not None]


def figures(status: Mapping[str, Any]) -> list[Figure]:
    """Return the numbers at the top of the page."""
    connections, memory = status.get("connections", {}), status.get("memory", {})
    found = []
    if "freezeSeconds" in status:
        found.append(Figure("freeze", durations.display(status["freezeSeconds"]), "the processes stood still"))
    if "deadTimeMs" in connections:
        dead = durations.display(connections["deadTimeMs"] / 1000)
        found.append(Figure("connections dark", dead, "locked on the source until unlocked on the target"))
    if "kept" in connections:
        closed = f", {connections['closed']} closed" if connections.get("closed") else ""
        found.append(Figure("connections kept", f"{connections['kept']} of {connections['total']}", f"kept{closed}"))
        flushed = f"{connections.get('flushed', 0)} of {connections['kept']}"
        found.append(Figure("flushed", flushed, "had nothing in flight when they were cut"))
    if "imageBytes" in memory:
        found.append(Figure("sent", durations.size(memory["imageBytes"]), "from node to node"))
    return found


def chart(status: Mapping[str, Any], seen: Sequence[Point]) -> Chart | None:
    """Return the throughput around the freeze; None without a freeze, or without points."""
    still = frozen(status)
    if still is None or not seen:
        return None
    around = max(AROUND_SECONDS, MARGIN * (still.end - still.begin))
    window = Span(still.begin - around, still.end + around)
    seconds = window.end - window.begin
    rates = _rates(seen, window, max(BIN_SECONDS, seconds / BINS))
    peak = max(rates)
    if not peak:
        return None
    points = [(100 * (number + 0.5) / len(rates), 100 - HEIGHT * rate / peak) for number, rate in enumerate(rates)]
    line = "M" + " L".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return Chart(line, shadows(status, window), f"{durations.size(peak)}/s", seconds)


def _rates(seen: Sequence[Point], window: Span, pitch: float) -> list[float]:
    """Return bytes a second in each interval of about `pitch` seconds; a point's bytes are spread over its time."""
    bins = max(1, round((window.end - window.begin) / pitch))
    width = (window.end - window.begin) / bins
    rates = [0.0] * bins
    for point in seen:
        begin, end = point.at - window.begin, point.at + point.seconds - window.begin
        for number in range(max(0, int(begin / width)), min(bins, int(end / width) + 1)):
            shared = min(end, (number + 1) * width) - max(begin, number * width)
            rates[number] += point.count * max(shared, 0.0) / point.seconds / width
    return rates


def _began(status: Mapping[str, Any], step: steps.Step) -> float | None:
    return next((times.parse(one["startedAt"]) for one in status.get("timings", ()) if one["step"] == step), None)


def _kind(name: str) -> str:
    if name in _DARK:
        return "dark"
    return "serves" if name in _SERVES else "frozen"
