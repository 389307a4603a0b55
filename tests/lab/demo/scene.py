"""What is shown while the demo runs: a live table on a terminal, one line per event elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from rich import console as rich_console
from rich import live, spinner, table, text
from tests.lab.workloads import results
from tests.support import migrations

from podferry import steps

SHOWN = tuple(row for row in steps.TABLE if row.step is not steps.Step.DONE)
REFRESH = 8
"""Pictures a second on a terminal."""


@dataclass(slots=True)
class Chore:
    """One thing that the demo does besides the migration; `seconds` is None while it runs."""

    title: str
    started: float
    seconds: float | None = None
    failed: bool = False


@dataclass(slots=True)
class Scene:
    """What there is to see at a moment."""

    chores: list[Chore] = field(default_factory=list)
    migration: migrations.Migration | None = None
    glances: dict[str, results.Progress] = field(default_factory=dict)


class Stage:
    """Shows a scene as it changes; a context manager that takes the terminal while it is open."""

    def __init__(self, console: rich_console.Console) -> None:
        self.console = console
        self.scene = Scene()
        self._told: set[steps.Step] = set()
        self._live = live.Live(
            get_renderable=lambda: picture(self.scene), console=console, refresh_per_second=REFRESH, transient=False
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    @contextlib.contextmanager
    def chore(self, title: str) -> Iterator[None]:
        """Show that something is being done, and how long it took."""
        chore = Chore(title, time.monotonic())
        self.scene.chores.append(chore)
        try:
            yield
        except BaseException:
            chore.failed = True
            raise
        finally:
            chore.seconds = time.monotonic() - chore.started
            if not self.console.is_terminal:
                self.console.print(_chore(chore), soft_wrap=True)

    def whereabouts(self) -> str:
        """Return what was being done, for a message about its failure."""
        failed = [chore.title for chore in self.scene.chores if chore.failed]
        step = self.scene.migration.step if self.scene.migration and self.scene.migration.succeeded is None else None
        return " / ".join([*failed, *([f"step {step}"] if step else [])]) or "before anything was shown"

    def glances(self, seen: dict[str, results.Progress]) -> None:
        """Show how the clients do."""
        self.scene.glances = seen

    def migration(self, seen: migrations.Migration) -> None:
        """Show how far the migration is."""
        self.scene.migration = seen
        if self.console.is_terminal:
            return
        for row in SHOWN:
            if state(row.step, seen) in ("done", "failed") and row.step not in self._told:
                self._told.add(row.step)
                self.console.print(f"  {row.step:<10} {_seconds(row.step, seen, 0.0):>9}  {row.does}", soft_wrap=True)


def state(step: steps.Step, seen: migrations.Migration | None) -> str:
    """Return "pending", "running", "done" or "failed" for one step."""
    if seen is None or seen.step is None:
        return "pending"
    here = steps.ORDER[step] - steps.ORDER[seen.step]
    if here == 0 and seen.succeeded is None:
        return "running"
    if here == 0 and seen.succeeded is False:
        return "failed"
    return "done" if here <= 0 else "pending"


def picture(scene: Scene) -> rich_console.Group:
    """Return the whole scene as something rich can draw."""
    parts: list[rich_console.RenderableType] = [_chore(chore) for chore in scene.chores]
    if scene.glances:
        parts += ["", clients(scene.glances)]
    if scene.migration is not None:
        parts += ["", progress(scene.migration, time.time())]
    return rich_console.Group(*parts)


def progress(seen: migrations.Migration, now: float) -> table.Table:
    """Return the table of steps; the line in it is the point of no return."""
    drawn = table.Table(box=None, pad_edge=False, show_edge=False)
    drawn.add_column("")
    drawn.add_column("step", style="bold", no_wrap=True)
    drawn.add_column("at", justify="right", style="dim", no_wrap=True)
    drawn.add_column("took", justify="right", no_wrap=True)
    drawn.add_column("what it does")
    marks = {"pending": "·", "done": "[green]✓", "failed": "[red]✗"}
    began = min((timing.started for timing in seen.timings.values()), default=now)
    for row in SHOWN:
        if row.step is steps.POINT_OF_NO_RETURN:
            drawn.add_row("", "", "", "", "[dim]─── point of no return ───")
        now_is = state(row.step, seen)
        timing = seen.timings.get(row.step)
        drawn.add_row(
            spinner.Spinner("dots") if now_is == "running" else marks[now_is],
            row.step,
            f"+{timing.started - began:.2f} s" if timing else "",
            _seconds(row.step, seen, now),
            text.Text(row.does, "dim" if now_is == "pending" else "", no_wrap=True, overflow="ellipsis"),
        )
    return drawn


def clients(glances: dict[str, results.Progress]) -> table.Table:
    """Return one line for each client."""
    drawn = table.Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("client", "connections", "failed", "verified", "quiet for", "longest wait"):
        drawn.add_column(heading, justify="left" if heading == "client" else "right")
    for name, glance in glances.items():
        drawn.add_row(
            name,
            str(glance.connections),
            f"[red]{glance.failed}" if glance.failed else "[green]0",
            size(glance.sent + glance.received),
            f"{glance.quiet:.2f} s",
            f"{glance.longest:.2f} s",
        )
    return drawn


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _seconds(step: steps.Step, seen: migrations.Migration, now: float) -> str:
    timing = seen.timings.get(step)
    if timing is None:
        return ""
    if timing.seconds is None:
        return f"{max(0.0, now - timing.started):.1f} s" if now else ""
    return f"{timing.seconds * 1000:.0f} ms" if timing.seconds < 1 else f"{timing.seconds:.2f} s"


def _chore(chore: Chore) -> rich_console.RenderableType:
    if chore.seconds is None:
        return spinner.Spinner("dots", chore.title)
    mark = "[red]✗[/]" if chore.failed else "[green]✓[/]"
    return f"{mark} {chore.title} [dim]{chore.seconds:.1f} s[/]"
