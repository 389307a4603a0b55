"""What survives a killed agent: one append-only file of JSON lines for each migration and role.

A line is written *before* what it describes is done, so that recovery never misses anything; what it undoes may not
have happened yet. Lines are in the page cache when `record` returns: that outlives the process. Only the decision to
commit must outlive the node as well, and is synced to the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podferry import errors, ids

_SUFFIX = ".journal"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: what is about to be done, and the facts that undoing or finishing it needs."""

    event: str
    facts: dict[str, Any]


class Journal:
    """The journal of one migration on one node."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = list(_read(path))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def migration_id(self) -> str:
        """Return the id of the migration that this journal belongs to."""
        return self._path.name.split(".")[0]

    @property
    def role(self) -> str:
        """Return "source" or "target"."""
        return self._path.name.split(".")[1]

    def record(self, event: str, *, durable: bool = False, **facts: Any) -> None:
        """Append one entry; with `durable`, return only when it is on the disk."""
        line = json.dumps({"event": event, **facts}, separators=(",", ":")) + "\n"
        os.write(self._file, line.encode())
        if durable:
            os.fsync(self._file)
            _sync_directory(self._path.parent)
        self._entries.append(Entry(event, facts))

    def facts(self, event: str) -> dict[str, Any] | None:
        """Return the facts of the last entry for `event`, None when there is none."""
        return next((entry.facts for entry in reversed(self._entries) if entry.event == event), None)

    def has(self, event: str) -> bool:
        """Tell whether `event` was ever recorded."""
        return self.facts(event) is not None

    def close(self) -> None:
        """Close the file; the journal stays."""
        os.close(self._file)

    def remove(self) -> None:
        """Forget the migration."""
        self.close()
        self._path.unlink(missing_ok=True)


class Journals:
    """The directory of all journals of this node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, migration_id: str, role: str) -> Journal:
        """Open or create the journal of a migration; `role` is "source" or "target"."""
        return Journal(self._directory / f"{ids.migration_id(migration_id)}.{role}{_SUFFIX}")

    def all(self) -> list[Journal]:
        """Open every journal that an earlier life of this agent left."""
        return [Journal(path) for path in sorted(self._directory.glob(f"*{_SUFFIX}"))]


def _read(path: Path) -> Iterator[Entry]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines[:-1]:  # what follows the last newline was cut off by a crash and never acted upon
        try:
            entry = json.loads(line)
            yield Entry(entry.pop("event"), entry)
        except (ValueError, KeyError, AttributeError) as error:
            raise errors.Inconsistent(
                f"unreadable journal: {error}", left=[str(path)], reason="JournalDamaged"
            ) from error


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
