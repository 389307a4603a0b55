"""Starting and ending the tasks of restored containers, by their cgroups: no task escapes from one."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from podferry import errors
from podferry_agent.process import cgroups as cg


def resume(cgroups: Sequence[Path]) -> None:
    """Continue every task that CRIU left stopped. Idempotent: a running task ignores it (unless it handles SIGCONT)."""
    for cgroup in cgroups:
        for pid in cg.pids(cgroup):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def kill(cgroup: Path, deadline: float) -> None:
    """Kill every task in a cgroup, stopped or frozen, and return when it is empty; a cgroup that is gone is fine.

    Raises:
        Inconsistent: something in it does not die before the deadline.
    """
    with contextlib.suppress(FileNotFoundError), cg.watch([cgroup]) as watched:
        while True:
            cg.write(cgroup, "cgroup.kill", "1")  # again: a dying restorer may have put one in
            slice_end = min(deadline, time.monotonic() + 0.5)
            if not cg.wait(watched, lambda events: events["populated"] == 0, slice_end):
                return
            if time.monotonic() >= deadline:
                raise errors.Inconsistent("tasks do not die", left=[str(cgroup)], reason="KillFailed")


def netns(pid: int) -> Path:
    """Return the path of a process's network namespace, good for as long as the process lives."""
    return Path(f"/proc/{pid}/ns/net")


def cgroup(pid: int) -> Path:
    """Return the cgroup (v2) of a process.

    Raises:
        Permanent: there is no such process (reason ProcessGone).
    """
    try:
        entry = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError as error:
        raise errors.Permanent(f"process {pid} is gone: {error}", reason="ProcessGone") from error
    return Path("/sys/fs/cgroup" + entry.partition("0::")[2].rstrip("\n"))
