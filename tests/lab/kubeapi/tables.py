"""`meta.k8s.io/v1 Table`: what the API sends to a client that prints columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from . import meta
from .errors import Json
from .resources import Column, Resource


def name_of(obj: Json) -> str:
    """Return the name of an object."""
    return str(obj["metadata"]["name"])


def age(text: str | None) -> str:
    """Return how long ago a time stamp was, as kubectl words it."""
    if not text:
        return "<unknown>"
    return duration((meta.now() - meta.parse_stamp(text)).total_seconds())


def duration(seconds: float) -> str:
    """Return seconds in one or two units, coarser the longer it is."""
    whole = int(seconds)
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    return f"{days}d" if days < 730 else _pair(days // 365, "y", days % 365, "d")


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


NAME = Column("Name", name_of, format="name", description="Name of the object, unique in its namespace.")
AGE = Column("Age", lambda obj: age(obj["metadata"].get("creationTimestamp")), description="Time since creation.")
PLAIN = (
    NAME,
    Column(
        "Created At",
        lambda obj: obj["metadata"].get("creationTimestamp"),
        type="date",
        description="When it was created.",
    ),
)


_STEP = re.compile(
    r"\.?(?P<name>[^.\[\]{}'\"\s]+)|\[['\"](?P<quoted>[^'\"]+)['\"]\]|\[(?P<index>-?\d+|\*)\]"
    r"|\[\?\(@\.(?P<key>[\w.\-]+)\s*==\s*['\"](?P<value>[^'\"]*)['\"]\)\]"
)


def at_path(path: str, kind: str) -> Callable[[Json], Any]:
    r"""Return a cell that reads a simple JSONPath such as `.status.conditions[?(@.type=="Ready")].status`."""
    steps, position, text = [], 0, path.replace("\\.", "\0")
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(f"unsupported JSONPath {path!r}")
        steps.append(match)
        position = match.end()

    def cell(obj: Json) -> Any:
        values: list[Any] = [obj]
        for step in steps:
            values = [found for value in values for found in _take(value, step)]
        if not values or values[0] is None:
            return None
        return _typed(values[0], kind)

    return cell


def _take(value: Any, step: re.Match[str]) -> list[Any]:
    if step["key"] is not None:
        items = value if isinstance(value, list) else []
        return [item for item in items if isinstance(item, dict) and str(item.get(step["key"])) == step["value"]]
    if step["index"] is not None:
        items = value if isinstance(value, list) else []
        if step["index"] == "*":
            return list(items)
        at = int(step["index"])
        return [items[at]] if -len(items) <= at < len(items) else []
    name = (step["name"] or step["quoted"]).replace("\0", ".")
    return [value[name]] if isinstance(value, dict) and name in value else []


def _typed(value: Any, kind: str) -> Any:
    """Return a value as a column of this type carries it; what does not fit is left out."""
    if kind == "date":
        return age(value) if isinstance(value, str) else None
    if kind == "integer":
        return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if kind == "number":
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_text, value)) + "]"
    return str(value)


def table(
    resource: Resource, objects: Sequence[Json], *, include: str, metadata: Json | None, heading: bool = True
) -> Json:
    """Return a table of objects; `include` is Object, Metadata or None, `metadata` that of the list."""
    columns = resource.columns or PLAIN
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata or {},
        "columnDefinitions": [_definition(column) for column in columns] if heading else None,
        "rows": [{"cells": [column.cell(obj) for column in columns], **_object(obj, include)} for obj in objects],
    }


def _definition(column: Column) -> Json:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _object(obj: Json, include: str) -> Json:
    if include == "None":
        return {}
    return {"object": obj if include == "Object" else partial(obj)}


def partial(obj: Json) -> Json:
    """Return only the metadata of an object, as `PartialObjectMetadata`."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
