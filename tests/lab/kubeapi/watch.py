"""Streams of changes: from a revision on, filtered, with bookmarks and an end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, Iterator

from . import errors
from .errors import Json
from .resources import Resource
from .selectors import Predicate
from .store import Change, Store

INITIAL_END = "k8s.io/initial-events-end"
"""The annotation of the bookmark that ends the initial objects of a streaming list."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a client asks of a watch.

    `revision` None means "the present state as ADDED events first, then changes"; `timeout` and `bookmark_every` in
    seconds.
    """

    namespace: str
    matches: Predicate
    revision: int | None = None
    announce_initial_end: bool = False
    bookmarks: bool = False
    timeout: float = 1800.0
    bookmark_every: float = 60.0


async def stream(store: Store, resource: Resource, wanted: Wanted) -> AsyncGenerator[tuple[str, Json], None]:
    """Yield (event type, stored object) until the time-out; an outdated revision yields one ERROR event and ends."""
    ends = time.monotonic() + wanted.timeout
    next_bookmark = time.monotonic() + wanted.bookmark_every
    with store.waking(resource.collection) as woken:
        seen = store.revision if wanted.revision is None else wanted.revision
        if wanted.revision is None:
            for event in _initial(store, resource, wanted):
                yield event
        while time.monotonic() < ends:
            woken.clear()
            try:
                changes = store.since(resource.collection, seen)
            except errors.ApiError as error:
                yield "ERROR", error.status()
                return
            for event in filter(None, (_seen_by(change, wanted) for change in changes)):
                yield event
            seen = changes[-1].revision if changes else seen
            await _woken(woken, min(ends, next_bookmark) if wanted.bookmarks else ends)
            if wanted.bookmarks and time.monotonic() >= next_bookmark:
                next_bookmark = time.monotonic() + wanted.bookmark_every
                seen = max(seen, store.revision) if not woken.is_set() else seen
                yield "BOOKMARK", _bookmark(resource, seen)
        if wanted.bookmarks and not woken.is_set():
            yield "BOOKMARK", _bookmark(resource, store.revision)


def _initial(store: Store, resource: Resource, wanted: Wanted) -> Iterator[tuple[str, Json]]:
    revision = store.revision
    for obj in store.objects(resource.collection, wanted.namespace):
        if wanted.matches(obj):
            yield "ADDED", obj
    if wanted.announce_initial_end:
        yield "BOOKMARK", _bookmark(resource, revision, {INITIAL_END: "true"})


async def _woken(event: asyncio.Event, until: float) -> None:
    """Wait for the event, but no longer than until this monotonic time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(until - time.monotonic(), 0)):
            await event.wait()


def _seen_by(change: Change, wanted: Wanted) -> tuple[str, Json] | None:
    """Return a change as a watch with these selectors sees it: an object that stops matching is DELETED for it."""
    if wanted.namespace and change.object["metadata"].get("namespace", "") != wanted.namespace:
        return None
    before = change.previous is not None and wanted.matches(change.previous)
    after = change.type != "DELETED" and wanted.matches(change.object)
    if after:
        return ("MODIFIED" if before else "ADDED"), change.object
    if not before:
        return None
    if change.type == "DELETED" or change.previous is None:
        return "DELETED", change.object
    metadata = {**change.previous["metadata"], "resourceVersion": str(change.revision)}
    return "DELETED", {**change.previous, "metadata": metadata}


def _bookmark(resource: Resource, revision: int, annotations: dict[str, str] | None = None) -> Json:
    metadata: Json = {"creationTimestamp": None, "resourceVersion": str(revision)}
    if annotations:
        metadata["annotations"] = annotations
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
