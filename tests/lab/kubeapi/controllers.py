"""What kube-controller-manager does and clients count on: owners, namespaces, definitions.

One task works through all changes in order. It deletes dependents whose owners are gone, finishes foreground and orphan
deletion, empties namespaces that terminate, and serves, or cleans up after, CustomResourceDefinitions.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import AsyncIterator

from . import crd, deletion, errors, meta
from .errors import Json
from .rest import NAMESPACES, Options, Rest, is_released
from .store import Change, Collection, Key, key_of

logger = logging.getLogger(__name__)

Place = tuple[Collection, Key]


class Controllers:
    """Listens to the store from construction on; `run` does the work until cancelled."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._changes: asyncio.Queue[tuple[Collection, Change]] = asyncio.Queue()
        self._live: dict[str, Place] = {}
        self._dependents: collections.defaultdict[str, set[Place]] = collections.defaultdict(set)
        rest.store.listeners.append(self._note)

    def _note(self, collection: Collection, change: Change) -> None:
        place, uid = (collection, key_of(change.object)), change.object["metadata"]["uid"]
        for owner in _owners(change.previous or {}):
            self._dependents[owner].discard(place)
        if change.type == "DELETED":
            self._live.pop(uid, None)
        else:
            self._live[uid] = place
            for owner in _owners(change.object):
                self._dependents[owner].add(place)
        self._changes.put_nowait((collection, change))
        if collection == crd.COLLECTION:
            self._serve(change)

    def _serve(self, change: Change) -> None:
        """Install or remove the endpoints of a definition at once: they are there when its writer is answered."""
        name = change.object["metadata"]["name"]
        if change.type == "DELETED":
            self._rest.registry.uninstall(name)
        elif crd.is_established(change.object):
            self._rest.registry.install(name, crd.resources(change.object))

    async def run(self) -> None:
        """Work through the changes, one after the other; a failure is logged and does not stop the rest."""
        while True:
            collection, change = await self._changes.get()
            try:
                self._handle(collection, change)
            except errors.ApiError as error:
                logger.debug("%s %s: %s", collection, key_of(change.object), error.message)
            except Exception:
                logger.exception("%s %s", collection, key_of(change.object))

    def _handle(self, collection: Collection, change: Change) -> None:
        metadata = change.object["metadata"]
        if change.type == "DELETED":
            for place in list(self._dependents.get(metadata["uid"], ())):
                self._judge(place)
            for owner in _owners(change.object):
                if owner in self._live:
                    self._judge(self._live[owner])
            self._finish_namespace(metadata.get("namespace", ""))
            self._finish_definitions(collection)
        else:
            self._judge((collection, key_of(change.object)))

    def _judge(self, place: Place) -> None:
        """Do what is due for one object in its present state."""
        collection, key = place
        obj = self._rest.store.get(collection, key)
        if obj is None:
            return
        if collection == crd.COLLECTION:
            self._establish(obj)
        owners = _owners(obj)
        if obj["metadata"].get("deletionTimestamp"):
            self._conclude(place, obj)
        elif owners and not any(owner in self._live for owner in owners):
            self._delete(place, "Background")

    def _conclude(self, place: Place, obj: Json) -> None:
        finalizers, uid = obj["metadata"].get("finalizers") or [], obj["metadata"]["uid"]
        dependents = list(self._dependents.get(uid, ()))
        if deletion.ORPHAN in finalizers:
            for dependent in dependents:
                self._disown(dependent, uid)
            self._drop_finalizer(place, deletion.ORPHAN)
        elif deletion.FOREGROUND in finalizers:
            for dependent in dependents:
                self._delete(dependent, "Foreground" if self._dependents_of(dependent) else "Background")
            if not any(self._blocks(dependent, uid) for dependent in self._dependents.get(uid, ())):
                self._drop_finalizer(place, deletion.FOREGROUND)
        if place[0] == NAMESPACES:
            self._empty_namespace(place[1][1])
        elif place[0] == crd.COLLECTION and crd.CLEANUP in finalizers:
            for collection, found in list(self._rest.store.everything()):
                if crd.owns(obj, collection):
                    self._delete((collection, key_of(found)), "Background")
            self._finish_definitions((obj["spec"]["group"], obj["spec"]["names"]["plural"]))

    def _dependents_of(self, place: Place) -> set[Place]:
        obj = self._rest.store.get(*place)
        return self._dependents.get(obj["metadata"]["uid"], set()) if obj else set()

    def _blocks(self, place: Place, owner: str) -> bool:
        obj = self._rest.store.get(*place)
        references = obj["metadata"].get("ownerReferences") or [] if obj else []
        return any(one["uid"] == owner and one.get("blockOwnerDeletion") for one in references)

    def _delete(self, place: Place, propagation: str) -> None:
        collection, key = place
        obj, resource = self._rest.store.get(*place), self._rest.registry.in_collection(collection)
        if obj is None or resource is None or obj["metadata"].get("deletionTimestamp"):
            return
        request = deletion.Request(propagation=propagation, uid=obj["metadata"]["uid"])
        deletion.delete(self._rest, resource, key, request, Options())

    def _write(self, place: Place, new: Json) -> None:
        resource = self._rest.registry.in_collection(place[0])
        if resource is not None and is_released(resource, new):
            self._rest.store.remove(place[0], new)
        else:
            self._rest.store.write(place[0], new)

    def _drop_finalizer(self, place: Place, finalizer: str) -> None:
        new = meta.touched(self._rest.store.get(*place) or {})
        new["metadata"]["finalizers"] = [one for one in new["metadata"]["finalizers"] if one != finalizer]
        if not new["metadata"]["finalizers"]:
            del new["metadata"]["finalizers"]
        self._write(place, new)

    def _disown(self, place: Place, owner: str) -> None:
        obj = self._rest.store.get(*place)
        if obj is not None:
            new = meta.touched(obj)
            left = [one for one in new["metadata"]["ownerReferences"] if one["uid"] != owner]
            new["metadata"]["ownerReferences"] = left
            if not left:
                del new["metadata"]["ownerReferences"]
            self._write(place, new)

    def _empty_namespace(self, name: str) -> None:
        for collection, obj in list(self._rest.store.everything()):
            if obj["metadata"].get("namespace") == name:
                self._delete((collection, key_of(obj)), "Background")
        self._finish_namespace(name)

    def _finish_namespace(self, name: str) -> None:
        found = self._rest.store.get(NAMESPACES, ("", name)) if name else None
        if found is None or not found["metadata"].get("deletionTimestamp"):
            return
        if any(obj["metadata"].get("namespace") == name for _, obj in self._rest.store.everything()):
            return
        new = meta.touched(found)
        new["spec"] = {**new.get("spec", {}), "finalizers": []}
        self._write((NAMESPACES, ("", name)), new)

    def _finish_definitions(self, collection: Collection) -> None:
        for found in self._rest.store.objects(crd.COLLECTION):
            waits = crd.CLEANUP in (found["metadata"].get("finalizers") or [])
            if waits and crd.owns(found, collection) and not self._rest.store.objects(collection):
                self._drop_finalizer((crd.COLLECTION, key_of(found)), crd.CLEANUP)

    def _establish(self, definition: Json) -> None:
        new = crd.establish(definition)
        if new != definition:
            self._write((crd.COLLECTION, key_of(definition)), new)


def _owners(obj: Json) -> list[str]:
    return [one["uid"] for one in obj.get("metadata", {}).get("ownerReferences") or []]


@contextlib.asynccontextmanager
async def running(rest: Rest) -> AsyncIterator[None]:
    """Run the controllers while the block runs."""
    task = asyncio.create_task(Controllers(rest).run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
