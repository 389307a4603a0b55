"""Files of one cgroup, and waiting for its events without polling (kernel: Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def write(cgroup: Path, file: str, value: str) -> None:
    """Write a control file."""
    (cgroup / file).write_text(value)


def events(cgroup: Path) -> dict[str, int]:
    """Return cgroup.events: "populated" and "frozen", for the cgroup and everything below it."""
    return _parse((cgroup / "cgroup.events").read_bytes())


def pids(cgroup: Path) -> list[int]:
    """Return the processes of a cgroup and of those below it, each once, in ascending order; none when it is gone."""
    found: set[int] = set()
    for directory, _, _ in os.walk(cgroup):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found.update(int(line) for line in (Path(directory) / "cgroup.procs").read_text().split())
    return sorted(found)


class Events:
    """An open cgroup.events: the kernel raises POLLPRI on it whenever a value changes."""

    def __init__(self, cgroup: Path) -> None:
        self.cgroup = cgroup
        self._file = os.open(cgroup / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._file

    def read(self) -> dict[str, int]:
        """Return the values now, and arm the next notification; nothing is populated or frozen in a removed cgroup."""
        try:
            return _parse(os.pread(self._file, 4096, 0))
        except OSError:  # ENODEV: removed while open
            return {"populated": 0, "frozen": 0}

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@contextlib.contextmanager
def watch(cgroups: list[Path]) -> Iterator[list[Events]]:
    """Open the events of some cgroups; open them *before* what is waited for is set off."""
    with contextlib.ExitStack() as stack:
        opened = []
        for cgroup in cgroups:
            opened.append(Events(cgroup))
            stack.callback(opened[-1].close)
        yield opened


def wait(watched: list[Events], condition: Callable[[dict[str, int]], bool], deadline: float) -> list[Path]:
    """Wait until `condition` holds for every cgroup's events; return those for which it does not at the deadline."""
    poll = select.poll()
    for item in watched:
        poll.register(item, select.POLLPRI)
    while True:
        missing = [item.cgroup for item in watched if not condition(item.read())]
        left = deadline - time.monotonic()
        if not missing or left <= 0:
            return missing
        poll.poll(left * 1000)


def _parse(text: bytes) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in text.decode().splitlines())}
