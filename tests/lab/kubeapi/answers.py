"""The forms of an answer: object, metadata only, table; JSON on the wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import aiohttp.web

from . import tables
from .errors import Json
from .resources import Resource


def dump(body: Any) -> bytes:
    """Return JSON without blanks."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def as_json(
    body: Json, *, status: int = 200, content_type: str = "application/json", warnings: Sequence[str] = ()
) -> aiohttp.web.Response:
    """Return an answer; warnings become headers that kubectl prints."""
    response = aiohttp.web.Response(body=dump(body), status=status, headers={"Content-Type": content_type})
    for warning in warnings:
        response.headers.add("Warning", f"299 - {json.dumps(warning)}")
    return response


def wants(request: aiohttp.web.Request, kind: str) -> bool:
    """Tell whether the client's first choice is this form of the answer."""
    first = request.headers.get("Accept", "").split(",")[0]
    parts = {part.strip() for part in first.split(";")}
    return f"as={kind}" in parts and "g=meta.k8s.io" in parts and "v=v1" in parts


def as_wanted(request: aiohttp.web.Request, resource: Resource, obj: Json) -> Json:
    """Return an object in the form that the client asked for."""
    if wants(request, "Table"):
        include = request.query.get("includeObject", "Metadata")
        return tables.table(resource, [obj], include=include, metadata=table_metadata(obj))
    return tables.partial(obj) if wants(request, "PartialObjectMetadata") else obj


def table_metadata(obj: Json) -> Json:
    """Return the metadata of a table that shows one object."""
    return {"resourceVersion": obj["metadata"].get("resourceVersion", "")}


def without_type(obj: Json) -> Json:
    """Return an object as it stands in a list of a built-in kind."""
    return {key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}}
