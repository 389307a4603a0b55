"""Structural schemas at work: finding and dropping unknown fields, defaulting, validating.

The same functions serve custom kinds (their `openAPIV3Schema`) and built-in ones (`models`). What a real server reports
differs: a wrong type in a built-in kind fails decoding (400), in a custom one validation (422).
"""

from __future__ import annotations

import copy
import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema

from . import meta, models
from .errors import Cause, Json

OPEN = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
EMBEDDED = "x-kubernetes-embedded-resource"

_GO_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
}


def at(path: str, key: str | int) -> str:
    """Return the path of a field or list item below `path`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def object_schema(body: Json) -> Json:
    """Return the schema of a whole custom object: its own, with identity and standard metadata at the root."""
    any_kind = models.schema("v1_config_map")["properties"]
    common = {field: any_kind[field] for field in ("apiVersion", "kind", "metadata")}
    return {**body, "properties": {**body.get("properties", {}), **common}}


def prune(schema: Json, value: Any, path: str = "", *, open_parent: bool = False) -> list[str]:
    """Drop what the schema does not know from `value`, in place; return the paths of what was dropped."""
    gone: list[str] = []
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            for index, item in enumerate(value):
                gone += prune(items, item, at(path, index), open_parent=open_parent)
        return gone
    if not isinstance(value, dict):
        return gone
    keeps = schema.get(OPEN, False) or schema.get("additionalProperties") is True or open_parent
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    embedded = {"apiVersion", "kind", "metadata"} if schema.get(EMBEDDED) else set()
    for key in list(value):
        below = properties.get(key, others if isinstance(others, dict) else None)
        if below is not None:
            gone += prune(below, value[key], at(path, key))
        elif not keeps and key not in embedded:
            gone.append(at(path, key))
            del value[key]
    return gone


def apply_defaults(schema: Json, value: Any) -> None:
    """Fill in defaults in place, outermost first; a null that may not be null counts as missing."""
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key in [key for key, item in value.items() if item is None]:
            below = properties.get(key, others if isinstance(others, dict) else None)
            if below is not None and not below.get("nullable"):
                del value[key]
        for key, below in properties.items():
            if "default" in below and key not in value:
                value[key] = copy.deepcopy(below["default"])
    for _, below, item in children(schema, value):
        apply_defaults(below, item)


def children(schema: Json, value: Any) -> Iterator[tuple[str | int, Json, Any]]:
    """Yield (key or index, schema, value) of the parts of a value that are described and not null."""
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            below = properties.get(key, others if isinstance(others, dict) else None)
            if below is not None and item is not None:
                yield key, below, item
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield index, schema["items"], item


def drop_nulls(value: Any) -> None:
    """Remove null fields in place, as decoding into a typed built-in object does."""
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if item is None]:
            del value[key]
        for item in value.values():
            drop_nulls(item)
    elif isinstance(value, list):
        for item in value:
            drop_nulls(item)


def missing(schema: Json, value: Any, path: str = "") -> Iterator[Cause]:
    """Yield the required fields that a value lacks, at any depth; an empty text counts as lacking."""
    for field in schema.get("required", []) if isinstance(value, dict) else []:
        if value.get(field) in (None, ""):
            yield Cause("FieldValueRequired", "Required value", at(path, field))
    for key, below, item in children(schema, value):
        yield from missing(below, item, at(path, key))


def mismatches(schema: Json, value: Any, path: str = "") -> Iterator[str]:
    """Yield what cannot be decoded into a built-in type; quantities become text in place."""
    wanted = schema.get("type")
    if schema.get(INT_OR_STRING):
        if not isinstance(value, (int, float, str)) or isinstance(value, bool):
            yield f"{path}: cannot unmarshal {_json_type(value)} into an int or string"
        return
    if wanted and (not isinstance(value, _GO_TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean")):
        yield f"json: cannot unmarshal {_json_type(value)} into Go struct field {path} of type {wanted}"
        return
    for key, below, item in children(schema, value):
        yield from mismatches(below, item, at(path, key))
        if below.get("x-quantity") and not isinstance(item, str):
            value[key] = str(item)


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
    return names.get(type(value), "null")


def _schema_type(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return names[type(value)]


class Validator:
    """Validates whole custom objects; compiled once per version of a kind."""

    def __init__(self, schema: Json) -> None:
        self._schema = schema
        self._validator = jsonschema.Draft202012Validator(_plain(schema), format_checker=_formats)

    def causes(self, obj: Json) -> list[Cause]:
        """Return every field that breaks the schema."""
        found = [cause for error in self._validator.iter_errors(obj) for cause in _explain(error)]
        return found + list(_duplicates(self._schema, obj, ""))


_PLAIN_KEYWORDS = {
    "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "maxItems", "maxLength", "maxProperties", "maximum",
    "minItems", "minLength", "minProperties", "minimum", "multipleOf", "pattern", "required", "type",
}  # fmt: skip


def _plain(schema: Json) -> Json:
    """Return a structural schema as plain JSON schema: Kubernetes' extensions translated, metadata left to `meta`."""
    plain = {key: value for key, value in schema.items() if key in _PLAIN_KEYWORDS}
    if "properties" in schema:
        described = schema["properties"].items()
        plain["properties"] = {name: _plain(below) for name, below in described if models.TYPE_NAME not in below}
    for key in ("items", "not", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            plain[key] = _plain(schema[key])
    plain |= {key: [_plain(below) for below in schema[key]] for key in ("allOf", "anyOf", "oneOf") if key in schema}
    for bound in ("maximum", "minimum"):
        # A flag beside the limit (as in JSON schema draft 4, which Kubernetes follows) becomes a limit of its own.
        if plain.pop(f"exclusive{bound.capitalize()}", False):
            plain[f"exclusive{bound.capitalize()}"] = plain.pop(bound)
    if schema.get(INT_OR_STRING):
        plain["type"] = ["integer", "string"]
    if schema.get("nullable") and "type" in plain:
        plain["type"] = [*([plain["type"]] if isinstance(plain["type"], str) else plain["type"]), "null"]
        if "enum" in plain:
            plain["enum"] = [*plain["enum"], None]
    return plain


def shown(value: Any) -> str:
    """Return a value as it stands in error messages."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


_SHOULD: dict[str, tuple[str, str]] = {
    "minimum": ("FieldValueInvalid", "be greater than or equal to {}"),
    "exclusiveMinimum": ("FieldValueInvalid", "be greater than {}"),
    "maximum": ("FieldValueInvalid", "be less than or equal to {}"),
    "exclusiveMaximum": ("FieldValueInvalid", "be less than {}"),
    "multipleOf": ("FieldValueInvalid", "be a multiple of {}"),
    "pattern": ("FieldValueInvalid", "match '{}'"),
    "minLength": ("FieldValueInvalid", "be at least {} chars long"),
    "minItems": ("FieldValueInvalid", "have at least {} items"),
    "minProperties": ("FieldValueInvalid", "have at least {} properties"),
}


def _explain(error: jsonschema.ValidationError) -> Iterator[Cause]:
    """Yield a schema violation in Kubernetes' words."""
    path = ""
    for part in error.absolute_path:
        path = at(path, part)
    value: Any = error.instance
    limit: Any = error.validator_value
    keyword, where = str(error.validator), path or "<nil>"
    if keyword in _SHOULD:
        reason, words = _SHOULD[keyword]
        message = f"Invalid value: {shown(value)}: {path} in body should {words.format(limit)}"
        yield Cause(reason, message, where)
    elif keyword == "required":
        yield from (
            Cause("FieldValueRequired", "Required value", at(path, name)) for name in limit if name not in value
        )
    elif keyword in {"type", "format"}:
        wanted = limit if isinstance(limit, str) else ",".join(one for one in limit if one != "null")
        seen = shown(value) if keyword == "format" or value is None else json.dumps(_schema_type(value))
        yield Cause(
            "FieldValueTypeInvalid", f"Invalid value: {seen}: {path} in body must be of type {wanted}: {seen}", where
        )
    elif keyword == "enum":
        values = ", ".join(shown(one) for one in limit)
        yield Cause("FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {values}", where)
    elif keyword == "maxLength":
        yield Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", where)
    elif keyword in {"maxItems", "maxProperties"}:
        yield Cause("FieldValueTooMany", f"Too many: {len(value)}: must have at most {limit} items", where)
    else:
        yield Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {error.message}", where)


def _duplicates(schema: Json, value: Any, path: str) -> Iterator[Cause]:
    """Yield list items that `x-kubernetes-list-type: set` or `map` forbids."""
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys", [])
    if isinstance(value, list) and kind in {"map", "set"}:
        seen: list[Any] = []
        for index, item in enumerate(value):
            identity = {key: item.get(key) for key in keys} if kind == "map" and isinstance(item, dict) else item
            if identity in seen:
                yield Cause("FieldValueDuplicate", f"Duplicate value: {shown(identity)}", at(path, index))
            seen.append(identity)
    for key, below, item in children(schema, value):
        yield from _duplicates(below, item, at(path, key))


_formats = jsonschema.FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or meta.parse_stamp(value).tzinfo is not None


@_formats.checks("int32")
def _is_int32(value: object) -> bool:
    return not isinstance(value, int) or -(2**31) <= value < 2**31


@_formats.checks("int64")
def _is_int64(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@_formats.checks("ipv4", raises=ValueError)
def _is_ipv4(value: object) -> bool:
    return not isinstance(value, str) or bool(ipaddress.IPv4Address(value))


@_formats.checks("ipv6", raises=ValueError)
def _is_ipv6(value: object) -> bool:
    return not isinstance(value, str) or bool(ipaddress.IPv6Address(value))


@_formats.checks("uuid")
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"(?i)[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", value))


@_formats.checks("duration")
def _is_duration(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|0", value))
