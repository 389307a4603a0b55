"""The metadata that every object has: names, identity, time stamps."""

from __future__ import annotations

import datetime
import random
import re
import uuid
from typing import Any

from .errors import Cause, Json

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PATH_SEGMENT = re.compile(r"(?!\.\.?$)[^/%]+")
_LABEL_NAME = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?)")
_SYSTEM_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
)


def now() -> datetime.datetime:
    """Return the present time in UTC."""
    return datetime.datetime.now(datetime.UTC)


def stamp(time: datetime.datetime) -> str:
    """Return a time as `metav1.Time` writes it: RFC 3339, whole seconds, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_stamp(text: str) -> datetime.datetime:
    """Read an RFC 3339 time."""
    return datetime.datetime.fromisoformat(text)


def generate_name(prefix: str) -> str:
    """Return `prefix` with five random letters, as `generateName` promises."""
    return prefix[:58] + "".join(random.choices(_SUFFIX_LETTERS, k=5))


def fresh(obj: Json) -> None:
    """Make the metadata of an object that is about to be created the server's own."""
    metadata = obj["metadata"]
    for field in (*_SYSTEM_FIELDS, "selfLink", "resourceVersion"):
        metadata.pop(field, None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generate_name(metadata["generateName"])
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = stamp(now())


def keep(obj: Json, old: Json) -> None:
    """Carry over what a writer cannot change from the old object into the new one."""
    for field in _SYSTEM_FIELDS:
        obj["metadata"].pop(field, None)
        if field in old["metadata"]:
            obj["metadata"][field] = old["metadata"][field]


def touched(obj: Json) -> Json:
    """Return an independent copy, to be changed and stored."""
    return {key: _copied(value) for key, value in obj.items()}


def _copied(value: Any) -> Any:
    """Copy JSON values; many times quicker than `copy.deepcopy`, which looks for cycles."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def check(obj: Json, *, path_segment_name: bool = False) -> list[Cause]:
    """Return what is wrong with name, labels and finalizers; `path_segment_name` allows colons and capitals (RBAC)."""
    metadata = obj["metadata"]
    name = metadata.get("name") or ""
    if not name:
        return [Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")]
    causes = []
    if path_segment_name:
        if not _PATH_SEGMENT.fullmatch(name):
            causes.append(_invalid("metadata.name", name, "may not contain '/' or '%'"))
    elif len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        causes.append(
            _invalid(
                "metadata.name",
                name,
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and"
                " must start and end with an alphanumeric character",
            )
        )
    return causes + _label_causes(metadata) + _owner_causes(metadata)


def _label_causes(metadata: Json) -> list[Cause]:
    causes = []
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_NAME.fullmatch(key.rpartition("/")[2]):
            causes.append(
                _invalid("metadata.labels", key, "name part must consist of alphanumeric characters, '-', '_' or '.'")
            )
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            causes.append(
                _invalid(
                    "metadata.labels",
                    value,
                    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'",
                )
            )
    return causes


def _owner_causes(metadata: Json) -> list[Cause]:
    causes = []
    for index, owner in enumerate(metadata.get("ownerReferences") or []):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                path = f"metadata.ownerReferences[{index}].{field}"
                causes.append(_invalid(path, "", "must not be empty"))
    return causes


def _invalid(field: str, value: str, why: str) -> Cause:
    return Cause("FieldValueInvalid", f'Invalid value: "{value}": {why}', field)
