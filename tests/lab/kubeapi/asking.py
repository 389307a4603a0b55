"""What a request says: which object its path addresses, what its query and body ask for."""

from __future__ import annotations

import dataclasses
import json
import urllib.parse
from typing import Any

import aiohttp.web
import yaml

from . import errors, patch, protobuf, selectors
from .errors import Json
from .resources import Registry, Resource
from .rest import Options


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind, and in it a namespace, an object and a subresource, each empty when not addressed."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse_target(path: str, registry: Registry) -> Target:
    """Return what a path below /api/v1 or /apis/GROUP/VERSION addresses; 404 when nothing is served there."""
    parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
    match parts:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise errors.no_such_path()
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and not (group == "" and rest[2] in {"status", "finalize"}):
        namespace, rest = rest[1], rest[2:]
    if not 1 <= len(rest) <= 3:
        raise errors.no_such_path()
    plural, name, subresource = [*rest, "", ""][:3]
    resource = registry.find(group, version, plural)
    if resource is None or (namespace and not resource.namespaced) or (name and resource.namespaced and not namespace):
        raise errors.no_such_path()
    return Target(resource, namespace, name, subresource)


def predicate(request: aiohttp.web.Request, resource: Resource) -> selectors.Predicate:
    """Return the test that the label and field selectors of a query make."""
    by_label = selectors.labels(request.query.get("labelSelector", ""))
    by_field = selectors.fields(request.query.get("fieldSelector", ""), resource.selectable)
    if resource.serve is None:
        return lambda obj: by_label(obj) and by_field(obj)
    return lambda obj: by_label(obj) and by_field(resource.out(obj))


def number(request: aiohttp.web.Request, name: str, default: int) -> int:
    """Return a whole number from the query; 400 when it is something else."""
    text = request.query.get(name) or str(default)
    if not text.isdecimal():
        raise errors.bad_request(f"invalid {name}: {text!r}")
    return int(text)


def options(request: aiohttp.web.Request) -> Options:
    """Return what the query of a write asks for."""
    query = request.query
    validation = query.get("fieldValidation") or "Warn"
    if validation not in {"Strict", "Warn", "Ignore"}:
        raise errors.bad_request(f"invalid fieldValidation {validation!r}")
    applies, agent = request.content_type == patch.APPLY, request.headers.get("User-Agent", "unknown").partition("/")[0]
    return Options(
        dry_run="All" in query.getall("dryRun", []),
        field_validation=validation,
        field_manager=query.get("fieldManager") or ("" if applies else agent),
        force=query.get("force") in {"true", "1"},
    )


async def body(request: aiohttp.web.Request) -> Any:
    """Return the decoded body, None when there is none; 415 for what is not understood."""
    raw = await request.read()
    if not raw:
        return None
    if request.content_type == protobuf.CONTENT_TYPE:
        return protobuf.decode(raw)
    if "cbor" in request.content_type:
        raise errors.unsupported_media("only JSON and YAML are understood: application/json, application/yaml")
    try:
        return yaml.safe_load(raw) if "yaml" in request.content_type else json.loads(raw)
    except (ValueError, yaml.YAMLError) as error:
        raise errors.bad_request(f"couldn't get the object from the request's body: {error}") from error


async def whole_object(request: aiohttp.web.Request) -> Json:
    """Return the body, which must be an object."""
    found = await body(request)
    if not isinstance(found, dict):
        raise errors.bad_request("couldn't get the object from the request's body: it is not an object")
    return found
