"""What the demo says at the end: on the terminal, and as a page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from rich import console as rich_console
from rich import table
from tests.lab import project_disk
from tests.lab.demo import evidence, scene
from tests.lab.workloads import results
from tests.support import migrations

from podferry_operator.report import model, page

FATES = 12
"""Connections shown one by one; of more than that, the worst first."""


def render(found: evidence.Evidence, problems: Sequence[str]) -> rich_console.Group:
    """Return the report: figures, each connection's fate, verdict."""
    parts: list[rich_console.RenderableType] = ["", figures(found), "", fates(found)]
    hidden = len(found.connections) - FATES
    if hidden > 0:
        parts.append(f"[dim]… and {hidden} more, none of them worse[/]")
    parts.append("")
    parts += [f"[red]✗[/] {text}" for text in problems]
    if not problems:
        parts.append(f"[green]✓[/] {_verdict(found)}")
    return rich_console.Group(*parts)


def write_page(found: evidence.Evidence) -> Path:
    """Write the migration as one HTML page, with what the clients saw; return the file."""
    points = [
        model.Point(sample.at, later.at - sample.at, sample.sent + sample.received)
        for client in found.clients
        for sample, later in itertools.pairwise(client.series)
    ]
    witnessed = [
        model.Figure("longest wait", _duration(found.longest.seconds), "as a client saw it, between two answers"),
        model.Figure("compared", scene.size(found.compared), "bytes whose content both ends agree on"),
    ]
    file = project_disk.REPOSITORY / "build/demo.html"
    file.parent.mkdir(exist_ok=True)
    file.write_text(page.render(found.told, points, witnessed))
    return file


def figures(found: evidence.Evidence) -> table.Table:
    """Return the numbers that a person asks for first."""
    moved = found.migration
    drawn = table.Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(style="bold")
    drawn.add_column(justify="right")
    drawn.add_column(style="dim")
    drawn.add_row("freeze", _duration(moved.freeze_seconds), "the processes stood still")
    dead = None if moved.dead_ms is None else moved.dead_ms / 1000
    drawn.add_row("connections dead", _duration(dead), "locked on the source until unlocked on the target")
    drawn.add_row("longest wait", _duration(found.longest.seconds), "as a client saw it, between two answers")
    drawn.add_row("connections", f"{moved.kept} of {moved.total}", "kept")
    drawn.add_row("queued bytes moved", scene.size(moved.bytes_queued), "inside the connections")
    drawn.add_row("image sent", scene.size(moved.image_bytes), "from node to node")
    drawn.add_row("compared", scene.size(found.compared), "bytes whose content and checksum both ends agree on")
    return drawn


def fates(found: evidence.Evidence) -> table.Table:
    """Return one row for each of the first connections, those with a failure or the longest wait first."""
    audit = {one.peer: one for one in found.migration.audit}
    drawn = table.Table(box=None, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("connection", "state", "fate"):
        drawn.add_column(heading, no_wrap=True)
    for heading in ("queued", "answered", "waited", "compared"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    drawn.add_column("client", no_wrap=True)
    for connection in sorted(found.connections, key=_badness)[:FATES]:
        drawn.add_row(*_fate(connection, audit.get(connection.local)))
    return drawn


def _badness(connection: results.Connection) -> tuple[bool, float]:
    return connection.failure is None, -connection.gap.seconds


def _fate(connection: results.Connection, seen: migrations.Audited | None) -> tuple[str, ...]:
    failure = connection.failure
    answered = "" if seen is None or seen.answered_ms is None else f"{seen.answered_ms:.0f} ms"
    return (
        connection.local,
        seen.state if seen else "",
        seen.fate if seen else "?",
        scene.size(seen.bytes_queued) if seen else "",
        answered,
        _duration(connection.gap.seconds),
        scene.size(connection.compared),
        f"[red]{failure.kind}" if failure else "[green]clean",
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _verdict(found: evidence.Evidence) -> str:
    moved = found.migration
    return (
        f"The pod runs on node {moved.target_node}, in the API and in containerd. {len(found.connections)} connections"
        f" went with it; no client saw an error, a reset, or a lost, repeated or changed byte."
    )
