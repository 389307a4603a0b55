"""Objects, revisions and the history that watches replay; knows nothing about kinds, HTTP or rules.

Revisions are one counter for all collections, as in etcd. They start at the wall clock's seconds, so a restarted
(empty) server is always ahead of what its clients remember, and they are told 410 instead of waiting for a past that
never comes.

An object that was stored is never changed in place: writers hand in a fresh one, readers must not touch what they get.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Literal

from . import errors
from .errors import Json

Collection = tuple[str, str]
"""(API group, plural): where objects of a kind are kept, whatever the version."""

Key = tuple[str, str]
"""(namespace, name); the namespace of cluster-scoped objects is empty."""

HISTORY = 2000
"""Changes kept per collection for watches that resume."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One write: `object` is the state after it (for DELETED: the last one), `previous` the state before it."""

    revision: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Json
    previous: Json | None


def key_of(obj: Json) -> Key:
    """Return where an object is kept in its collection."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


class _Shelf:
    """The objects of one collection, their recent changes, and who waits for the next one."""

    def __init__(self, revision: int) -> None:
        self.objects: dict[Key, Json] = {}
        self.history: collections.deque[Change] = collections.deque()
        self.forgotten = revision
        self.waiting: set[asyncio.Event] = set()


class Store:
    """All collections; every write takes the next revision and wakes the watches of its collection."""

    def __init__(self, *, revision: int | None = None, history: int = HISTORY) -> None:
        # Above all that an earlier server can have given out: whoever resumes there is told to list anew.
        self.revision = time.time_ns() // 1000 if revision is None else revision
        self.listeners: list[Callable[[Collection, Change], None]] = []
        self._history = history
        self._shelves: dict[Collection, _Shelf] = {}

    def _shelf(self, collection: Collection) -> _Shelf:
        shelf = self._shelves.get(collection)
        if shelf is None:
            shelf = self._shelves[collection] = _Shelf(self.revision)
        return shelf

    def get(self, collection: Collection, key: Key) -> Json | None:
        """Return one object, or None."""
        return self._shelf(collection).objects.get(key)

    def objects(self, collection: Collection, namespace: str = "") -> list[Json]:
        """Return the objects of a collection (of one namespace, if named), ordered by namespace and name."""
        objects = self._shelf(collection).objects
        return [objects[key] for key in sorted(objects) if not namespace or key[0] == namespace]

    def everything(self) -> Iterator[tuple[Collection, Json]]:
        """Yield every object with its collection; safe against writes meanwhile."""
        for collection, shelf in list(self._shelves.items()):
            for obj in list(shelf.objects.values()):
                yield collection, obj

    def write(self, collection: Collection, obj: Json) -> Json:
        """Store a fresh object under its name, stamping the new revision into it; return it."""
        shelf, key = self._shelf(collection), key_of(obj)
        previous = shelf.objects.get(key)
        shelf.objects[key] = obj
        self._commit(collection, shelf, "ADDED" if previous is None else "MODIFIED", obj, previous)
        return obj

    def remove(self, collection: Collection, obj: Json) -> Json:
        """Remove an object; return its last state, with the revision of the removal."""
        shelf = self._shelf(collection)
        previous = shelf.objects.pop(key_of(obj))
        last = {**obj, "metadata": dict(obj["metadata"])}
        self._commit(collection, shelf, "DELETED", last, previous)
        return last

    def _commit(
        self,
        collection: Collection,
        shelf: _Shelf,
        kind: Literal["ADDED", "MODIFIED", "DELETED"],
        obj: Json,
        previous: Json | None,
    ) -> None:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        change = Change(self.revision, kind, obj, previous)
        shelf.history.append(change)
        if len(shelf.history) > self._history:
            shelf.forgotten = shelf.history.popleft().revision
        for waiting in shelf.waiting:
            waiting.set()
        for listener in self.listeners:
            listener(collection, change)

    def since(self, collection: Collection, revision: int) -> list[Change]:
        """Return the changes after `revision`, oldest first; 410 when some of them are forgotten."""
        shelf = self._shelf(collection)
        if revision < shelf.forgotten:
            raise errors.expired(f"too old resource version: {revision} ({shelf.forgotten})")
        newer: list[Change] = []
        for change in reversed(shelf.history):
            if change.revision <= revision:
                break
            newer.append(change)
        newer.reverse()
        return newer

    def forget(self, collection: Collection) -> None:
        """Drop the history of a collection, as a compaction does."""
        shelf = self._shelf(collection)
        shelf.history.clear()
        shelf.forgotten = self.revision

    @contextlib.contextmanager
    def waking(self, collection: Collection) -> Iterator[asyncio.Event]:
        """Give an event that is set by every change in the collection; who waits clears it."""
        event = asyncio.Event()
        waiting = self._shelf(collection).waiting
        waiting.add(event)
        try:
            yield event
        finally:
            waiting.discard(event)
