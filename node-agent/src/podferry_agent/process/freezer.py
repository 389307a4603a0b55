"""Freezing the containers of a pod, all at once, by the cgroup v2 freezer.

Each container's own cgroup is frozen and never an ancestor: CRIU thaws the cgroup of the container that it dumps,
once it holds every task by ptrace, and freezes it again; with a frozen ancestor that would hang.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from podferry import errors
from podferry_agent.process import cgroups as cg

pids = cg.pids

DUMP_SECONDS = 300.0
"""How long a dump that outlived its agent may go on; it cannot be hurried, and refreezes what is thawed meanwhile."""

THAW_SECONDS = 10.0
"""A cgroup thaws in microseconds; only a machine in trouble needs longer."""


def freeze(cgroups: Sequence[Path], deadline: float) -> None:
    """Freeze all cgroups and return when every task in them stands still; those that are frozen already stay so.

    Raises:
        Permanent: a cgroup is gone (reason ContainerGone).
        Transient: a task did not stop before the deadline (reason FreezeTimeout), as one in uninterruptible sleep may
        not.
            In both cases what was frozen here is thawed again.
    """
    new = [cgroup for cgroup in cgroups if not frozen(cgroup)]
    try:
        with cg.watch(new) as watched:
            for cgroup in new:
                cg.write(cgroup, "cgroup.freeze", "1")
            running = cg.wait(watched, lambda events: events["frozen"] == 1, deadline)
    except OSError as error:
        thaw(new)
        raise errors.Permanent(f"cannot freeze: {error}", reason="ContainerGone") from error
    if running:
        thaw(new)
        names = ", ".join(str(cgroup) for cgroup in running)
        raise errors.Transient(f"tasks do not stop in {names}", reason="FreezeTimeout")


def thaw(cgroups: Sequence[Path], deadline: float | None = None) -> None:
    """Let all run again; return when they do. A cgroup that was never frozen, or is gone, is fine.

    A dump in progress, left by an agent that was killed, is waited for first.

    Raises:
        Inconsistent: one stays frozen.
    """
    _wait_dumped(cgroups)
    until = time.monotonic() + THAW_SECONDS if deadline is None else deadline
    left = []
    for cgroup in cgroups:
        with contextlib.suppress(FileNotFoundError), cg.watch([cgroup]) as watched:
            cg.write(cgroup, "cgroup.freeze", "0")
            left += cg.wait(watched, lambda events: events["frozen"] == 0, until)
    if left:
        raise errors.Inconsistent("cannot thaw", left=[str(cgroup) for cgroup in left], reason="ThawFailed")


def frozen(cgroup: Path) -> bool:
    """Tell whether every task in the cgroup stands still."""
    try:
        return cg.events(cgroup)["frozen"] == 1
    except OSError as error:
        raise errors.Permanent(f"no such cgroup: {cgroup}", reason="ContainerGone") from error


def _wait_dumped(cgroups: Sequence[Path]) -> None:
    until = time.monotonic() + DUMP_SECONDS
    while any(_dumped(pid) for cgroup in cgroups for pid in pids(cgroup)) and time.monotonic() < until:
        time.sleep(0.05)  # there is nothing to wait on: it is no child of ours


def _dumped(pid: int) -> bool:
    """Tell whether CRIU holds a process by ptrace."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        tracer = status.split("\nTracerPid:", 1)[1].split(maxsplit=1)[0]
        return tracer != "0" and Path(f"/proc/{tracer}/comm").read_text().strip() == "criu"
    except OSError:
        return False  # it has ended
