"""How long work is shown: a bar per piece of work on a terminal, one line per step elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from rich import console as rich_console
from rich import progress as rich_progress

log = logging.getLogger(__name__)


class Step(NamedTuple):
    """One named part of a longer piece of work."""

    name: str
    do: Callable[[], None]


class Reporter(Protocol):
    """What runs steps and shows that they run."""

    def run(self, title: str, steps: Sequence[Step]) -> None:
        """Do all `steps` in order; the first exception ends the work."""


class Lines:
    """Reports each finished step as a log line with its seconds."""

    def run(self, title: str, steps: Sequence[Step]) -> None:
        """Do all `steps` in order."""
        for step in steps:
            begin = time.monotonic()
            step.do()
            log.info("%s: %s, %.1f s", title, step.name, time.monotonic() - begin)


class Bar:
    """Shows one bar per piece of work on standard error; a plain line each when that is no terminal."""

    def run(self, title: str, steps: Sequence[Step]) -> None:
        """Do all `steps` in order."""
        console = rich_console.Console(stderr=True)
        with rich_progress.Progress(
            rich_progress.TextColumn("{task.description:<20}"),
            rich_progress.BarColumn(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TextColumn("{task.fields[step]}"),
            console=console,
            refresh_per_second=4,
        ) as shown:
            task = shown.add_task(title, total=len(steps), step="")
            for step in steps:
                shown.update(task, step=step.name)
                step.do()
                shown.advance(task)
            shown.update(task, step="done")
