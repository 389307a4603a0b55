"""docs/benchmarks.md and its charts, from the figures: nobody types a number there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import chart, net, results, trace
from tests.lab import project_disk

PAGE = project_disk.REPOSITORY / "docs/benchmarks.md"
PICTURES = project_disk.REPOSITORY / "docs/img"
NAMES = {"flush": "podferry", "drop": "packets dropped", "nowake": "zero window, no update"}

_MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write() -> None:
    """Draw the charts and fill the marked parts of the page with the figures as they are now."""
    figures = results.load()
    charts(figures, PICTURES)
    parts = {"machine": machine(), "dead": dead(figures), "resume": resume(figures), "other": other(figures)}
    PAGE.write_text(_MARKED.sub(lambda found: f"{found[1]}{parts[found[2]]}\n{found[3]}", PAGE.read_text()))


def charts(figures: dict[str, float], folder: Path) -> None:
    """Draw everything that the figures are enough for into `folder`."""
    counts = [count for count in net.COUNTS if f"dead_ms.repair.{count}" in figures]
    if counts:
        series = {
            "dark": [figures[f"dead_ms.repair.{count}"] for count in counts],
            "flush before it": [figures[f"flush_ms.repair.{count}"] for count in counts],
        }
        labels = [f"{count:,}" for count in counts]
        chart.bars(folder / "bench-dead.svg", "Time to cut over", ("connections", "milliseconds"), labels, series)
    frozen = [seconds for seconds in net.FREEZES if net.delay_key("flush", seconds) in figures]
    delays = {
        label: [(seconds, figures[net.delay_key(name, seconds)]) for seconds in frozen] for name, label in NAMES.items()
    }
    if frozen:
        axes = ("seconds frozen", "milliseconds")
        title = "From the resume until a peer's stream goes on"
        chart.xy(folder / "bench-resume.svg", title, axes, delays, logarithmic=True)
    traces = trace.load()
    if traces:
        shown = {NAMES[name]: points for name, points in traces.items()}
        axes = ("seconds since the freeze", "kilobytes received")
        chart.xy(
            folder / "bench-stream.svg",
            f"A stream into a pod that is frozen for {trace.SECONDS:g} s",
            axes,
            shown,
            dots=False,
        )


def machine() -> str:
    """Return one line about where the figures are from."""
    found = results.machine()
    return f"{found['cores']} cores of an {found['cpu']}, Linux {found['kernel']}."


def dead(figures: dict[str, float]) -> str:
    """Return the table of dark times."""
    rows = [
        (f"{count:,}", *_cells(figures, f"flush_ms.repair.{count}", f"dead_ms.repair.{count}"),
         f"{figures[f'per_connection_us.repair.{count}']:.0f}")
        for count in net.COUNTS if f"dead_ms.repair.{count}" in figures
    ]  # fmt: skip
    return _table(("connections", "flush, ms", "dark, ms", "µs for one more"), rows)


def resume(figures: dict[str, float]) -> str:
    """Return the table of resume delays."""
    rows = [
        (f"{seconds:g} s", *_cells(figures, *(net.delay_key(name, seconds) for name in NAMES)))
        for seconds in net.FREEZES
        if net.delay_key("flush", seconds) in figures
    ]
    return _table(("frozen for", *(f"{label}, ms" for label in NAMES.values())), rows)


def other(figures: dict[str, float]) -> str:
    """Return the table of single figures."""
    told = {
        "goodput_after_over_before": "goodput of a bulk transfer in the second after the resume ÷ before the freeze",
        "net.gap_over_freeze.10": "longest wait of a client ÷ time that the process stood still",
    }
    return _table(("", ""), [(text, *_cells(figures, key)) for key, text in told.items() if key in figures])


def _cells(figures: dict[str, float], *keys: str) -> Iterator[str]:
    for key in keys:
        low, high = (figures.get(f"{key}.{end}", figures[key]) for end in ("min", "max"))
        within = f" ({_short(low)} – {_short(high)})" if low != high else ""
        yield f"{_short(figures[key])}{within}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
