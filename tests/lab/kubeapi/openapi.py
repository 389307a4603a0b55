"""/openapi/v3: one document per group and version, as kubectl's apply, explain and validation read it.

Operations carry what kubectl looks for: the kind they act on, and the query parameters that announce server-side field
validation and dry run. OpenAPI v2 is an empty document: kubectl asks for it only when v3 does not know a kind.
"""

from __future__ import annotations

import re
from typing import Any

from . import errors, models
from .errors import Json
from .resources import Registry, Resource

_CLASS = re.compile(r"(?P<scope>[A-Z][a-z]+)?(?P<version>V\d+(?:(?:alpha|beta)\d+)?)(?P<name>[A-Z].*)")
_INTERNAL = {models.TYPE_NAME, "x-quantity"}


V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_ANSWER = V2_PROTOBUF.replace("@", ".")
"""The same form as an answer names it: `@` is asked for, but no client can read it in a media type."""
V2_EMPTY = b"\x0a\x032.0"
"""A v2 document in protobuf with nothing but its first field, `swagger: "2.0"`."""


def index(registry: Registry) -> Json:
    """Return /openapi/v3: where the documents are; the address changes with what is served."""
    return {
        "paths": {
            kinds[0].path[1:]: {"serverRelativeURL": f"/openapi/v3{kinds[0].path}?hash={registry.revision:016X}"}
            for by_version in registry.groups().values()
            for kinds in by_version.values()
        }
    }


def document(registry: Registry, path: str) -> Json:
    """Return the document for a path such as /api/v1 or /apis/apps/v1."""
    kinds = [one for one in registry if one.path == path]
    if not kinds:
        raise errors.no_such_path()
    schemas: Json = {}
    paths: Json = {}
    for one in kinds:
        schema = one.schema()
        if schema is None:
            continue
        name = _component_name(schema.get(models.TYPE_NAME, "")) or _custom_name(one)
        schemas[name] = {**_components(schema, schemas), "x-kubernetes-group-version-kind": [_gvk(one)]}
        paths |= _paths(one, name)
    info = {"title": "podferry lab", "version": "v1.37.0"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _gvk(one: Resource) -> Json:
    return {"group": one.group, "kind": one.kind, "version": one.version}


def _custom_name(one: Resource) -> str:
    return ".".join([*reversed(one.group.split(".")), one.version, one.kind])


def _component_name(class_name: str) -> str:
    """Return the component of a class of the client, e.g. io.k8s.v1.Pod; explain prints the last part."""
    match = _CLASS.fullmatch(class_name)
    if match is None:
        return f"io.k8s.{class_name}" if class_name else ""
    parts = filter(None, ("io.k8s", (match["scope"] or "").lower(), match["version"].lower(), match["name"]))
    return ".".join(parts)


def _components(schema: Json, components: Json) -> Json:
    """Return a schema with the types below it as references, having added those types to `components`."""
    result: Json = {key: value for key, value in schema.items() if key not in _INTERNAL}
    if "properties" in schema:
        result["properties"] = {name: _reference(below, components) for name, below in schema["properties"].items()}
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            result[part] = _reference(schema[part], components)
    if schema.get("x-kubernetes-int-or-string"):
        result["oneOf"] = [{"type": "integer"}, {"type": "string"}]
    return result


def _reference(schema: Json, components: Json) -> Json:
    class_name = schema.get(models.TYPE_NAME)
    if class_name is None:
        return _components(schema, components)
    name = _component_name(class_name)
    if name not in components:
        components[name] = {}
        components[name] = _components(schema, components)
    return {"$ref": f"#/components/schemas/{name}"}


def _paths(one: Resource, schema: str) -> Json:
    scope = "/namespaces/{namespace}" if one.namespaced else ""
    collection = f"{one.path}{scope}/{one.plural}"
    item = f"{collection}/{{name}}"
    found: Json = {
        collection: {
            "get": _operation(one, "list", schema, ("labelSelector", "fieldSelector", "limit", "continue")),
            "post": _operation(one, "post", schema, ("dryRun", "fieldManager", "fieldValidation")),
            "delete": _operation(one, "deletecollection", schema, ("dryRun",)),
        },
        item: _item(one, schema),
    }
    if one.namespaced:
        found[f"{one.path}/{one.plural}"] = {"get": _operation(one, "list", schema, ("labelSelector", "fieldSelector"))}
    if one.status:
        found[f"{item}/status"] = {key: value for key, value in _item(one, schema).items() if key != "delete"}
    return found


def _item(one: Resource, schema: str) -> Json:
    return {
        "get": _operation(one, "get", schema, ()),
        "put": _operation(one, "put", schema, ("dryRun", "fieldManager", "fieldValidation")),
        "patch": _operation(one, "patch", schema, ("dryRun", "fieldManager", "fieldValidation", "force")),
        "delete": _operation(one, "delete", schema, ("dryRun", "gracePeriodSeconds", "propagationPolicy")),
    }


def _operation(one: Resource, action: str, schema: str, parameters: tuple[str, ...]) -> Json:
    reference: Json = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    content: dict[str, Any] = {"application/json": reference}
    return {
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in parameters],
        "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(one),
    }
