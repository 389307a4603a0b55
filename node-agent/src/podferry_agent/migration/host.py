"""What a migration does to the machine, as protocols: the real thing comes from the packages below, fakes from
`testing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Freezer(Protocol):
    """`process.freezer`."""

    def freeze(self, cgroups: Sequence[Path], deadline: float) -> None:
        """Freeze all at once; return when every task stands still."""

    def thaw(self, cgroups: Sequence[Path]) -> None:
        """Let all run again; frozen or not."""

    def pids(self, cgroup: Path) -> list[int]:
        """Return the processes in one."""


class Tasks(Protocol):
    """`process.tasks`: restored tasks, which stand stopped."""

    def netns(self, pid: int) -> Path:
        """Return the path of a process's network namespace."""

    def cgroup(self, pid: int) -> Path:
        """Return the cgroup of a process."""

    def resume(self, cgroups: Sequence[Path]) -> None:
        """Continue every task."""

    def kill(self, cgroup: Path, deadline: float) -> None:
        """Kill every task of one container."""
