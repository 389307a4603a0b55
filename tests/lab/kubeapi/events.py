"""Events are one kind with two faces: core/v1 (as stored here) and events.k8s.io/v1."""

from __future__ import annotations

from .errors import Json

_NEW_TO_CORE = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_CORE_TO_NEW = {core: new for new, core in _NEW_TO_CORE.items()}


def to_core(event: Json) -> Json:
    """Return an events.k8s.io/v1 event as it is stored."""
    renamed = {_NEW_TO_CORE.get(field, field): value for field, value in event.items()}
    return renamed | {"apiVersion": "v1"}


def from_core(stored: Json) -> Json:
    """Return a stored event as events.k8s.io/v1 shows it."""
    renamed = {_CORE_TO_NEW.get(field, field): value for field, value in stored.items()}
    return renamed | {"apiVersion": "events.k8s.io/v1"}
