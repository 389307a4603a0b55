"""Deleting: at once, after the kubelet is done (pods), or when the last finalizer is gone."""

from __future__ import annotations

import dataclasses
import datetime

from . import crd, errors, meta
from .errors import Json
from .resources import Resource
from .rest import NAMESPACES, Options, Rest, is_released
from .store import Key

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclasses.dataclass(frozen=True)
class Request:
    """`DeleteOptions`: seconds of grace, what happens to dependents, and which object exactly is meant."""

    grace: int | None = None
    propagation: str = ""
    uid: str = ""
    resource_version: str = ""

    @classmethod
    def parse(cls, body: Json, query: dict[str, str]) -> Request:
        """Read the options from a request's body; where it has none, from the query."""
        grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        orphan = body.get("orphanDependents", query.get("orphanDependents"))
        propagation = body.get("propagationPolicy") or query.get("propagationPolicy") or ""
        if orphan is not None and not propagation:
            propagation = "Orphan" if orphan in {True, "true"} else "Background"
        if propagation not in {"", "Orphan", "Background", "Foreground"}:
            raise errors.bad_request(f"invalid propagationPolicy {propagation!r}")
        conditions = body.get("preconditions") or {}
        if grace is not None and not str(grace).isdecimal():
            raise errors.bad_request(f"invalid gracePeriodSeconds {grace!r}")
        return cls(
            grace=None if grace is None else int(grace),
            propagation=propagation,
            uid=conditions.get("uid") or "",
            resource_version=conditions.get("resourceVersion") or "",
        )


def delete(rest: Rest, resource: Resource, key: Key, request: Request, options: Options) -> tuple[Json, bool]:
    """Delete an object or mark it for deletion; return its last state, and whether it is gone."""
    old = rest.stored(resource, *key)
    _check_preconditions(resource, old, request)
    new = meta.touched(old)
    metadata = new["metadata"]
    finalizers = _finalizers(resource, metadata, request)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    grace = _grace(resource, new, request)
    if not metadata.get("deletionTimestamp"):
        _mark(new, grace)
        if metadata.get("generation"):
            metadata["generation"] += 1
        if resource.collection == NAMESPACES:
            new["status"] = {**new.get("status", {}), "phase": "Terminating"}
    elif grace < metadata.get("deletionGracePeriodSeconds", 0):
        _mark(new, grace)
    gone = is_released(resource, new)
    if options.dry_run:
        return resource.out(new), gone
    if gone:
        return resource.out(rest.store.remove(resource.collection, new)), True
    return resource.out(new if new == old else rest.store.write(resource.collection, new)), False


def _check_preconditions(resource: Resource, old: Json, request: Request) -> None:
    for word, given, actual in (
        ("UID", request.uid, old["metadata"]["uid"]),
        ("ResourceVersion", request.resource_version, old["metadata"]["resourceVersion"]),
    ):
        if given and given != actual:
            why = f"Precondition failed: {word} in precondition: {given}, {word} in object meta: {actual}"
            raise errors.conflict(resource.plural, resource.group, old["metadata"]["name"], why)


def _finalizers(resource: Resource, metadata: Json, request: Request) -> list[str]:
    finalizers = list(metadata.get("finalizers") or [])
    if request.propagation:
        finalizers = [one for one in finalizers if one not in {FOREGROUND, ORPHAN}]
        wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(request.propagation)
        finalizers += [wanted] if wanted else []
    if resource.collection == crd.COLLECTION and not metadata.get("deletionTimestamp"):
        finalizers.append(crd.CLEANUP)
    return finalizers


def _grace(resource: Resource, obj: Json, request: Request) -> int:
    """Return the seconds that an object is given; only a pod on a node has someone who uses them."""
    if not resource.graceful:
        return 0
    spec, phase = obj.get("spec", {}), obj.get("status", {}).get("phase")
    if not spec.get("nodeName") or phase in {"Succeeded", "Failed"}:
        return 0
    seconds = request.grace if request.grace is not None else spec.get("terminationGracePeriodSeconds", 30)
    return int(seconds)


def _mark(obj: Json, grace: int) -> None:
    obj["metadata"]["deletionTimestamp"] = meta.stamp(meta.now() + datetime.timedelta(seconds=grace))
    obj["metadata"]["deletionGracePeriodSeconds"] = grace
