"""What a lab has made on this host, written down so that any process can remove it: processes, namespaces, its folder.

`${XDG_RUNTIME_DIR:-/run}/podferry-lab/NAME/` is a lab's folder, with `state.json` in it. Removing a lab works from this
file alone; the process that made the lab uses the same way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import network

_PATIENCE = 5.0
"""Seconds that processes get after SIGTERM, before SIGKILL."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for a later one with its pid: the start time is in clock ticks since boot."""

    name: str
    pid: int
    started: int

    def alive(self) -> bool:
        """Return whether it still runs; a zombie does not."""
        return _start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def process(name: str, pid: int) -> Process:
    """Return the process that has `pid` now."""
    return Process(name, pid, _start_time(pid) or 0)


def _start_time(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(slots=True)
class State:
    """One lab on this host."""

    name: str
    owner: Process | None
    """Who made it; None for a lab that outlives its maker."""
    namespaces: list[str]
    processes: list[Process] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    kubeconfig: str = ""

    @property
    def folder(self) -> Path:
        """Return the lab's folder on this host."""
        return root() / self.name

    def save(self) -> None:
        """Write it down; a reader sees the old or the new content."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = self.folder / "state.json.new"
        scratch.write_text(json.dumps(dataclasses.asdict(self), indent=1))
        scratch.rename(self.folder / "state.json")

    def remove(self) -> None:
        """Stop and delete all of it; what is gone already is no error."""
        running = [one for one in self.processes if one.alive()]
        for one in running:
            # Virtual machines have nothing to save, and SIGTERM makes QEMU wait for nothing.
            one.signal(signal.SIGKILL if one.name in self.nodes else signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while any(one.alive() for one in running) and time.monotonic() < deadline:
            time.sleep(0.01)
        for one in running:
            one.signal(signal.SIGKILL)
        for namespace in self.namespaces:
            network.delete(namespace)
        shutil.rmtree(self.folder, ignore_errors=True)


def root() -> Path:
    """Return the folder that holds one folder per lab."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/run") / "podferry-lab"


def load(name: str) -> State | None:
    """Return the lab called `name`, if there is one on this host."""
    try:
        raw = json.loads((root() / name / "state.json").read_text())
    except FileNotFoundError:
        return None
    raw["processes"] = [Process(**one) for one in raw["processes"]]
    raw["owner"] = Process(**raw["owner"]) if raw["owner"] else None
    return State(**raw)


def sweep() -> list[str]:
    """Remove the labs whose makers were killed; return their names."""
    names = [path.parent.name for path in root().glob("*/state.json")]
    dead = [lab for name in names if (lab := load(name)) and lab.owner is not None and not lab.owner.alive()]
    for lab in dead:
        lab.remove()
    return [lab.name for lab in dead]
