"""From a URL path to what it addresses."""

from __future__ import annotations

import dataclasses
import urllib.parse

from . import errors
from .resources import Registry, Resource


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
