"""The patch formats of the API: JSON Merge Patch (RFC 7386), JSON Patch (RFC 6902) and strategic merge."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonpatch

from . import errors
from .errors import Json

JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def merge(target: Any, patch: Any) -> Any:
    """Return `target` after a merge patch: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def apply_json(target: Json, operations: Any) -> Json:
    """Return `target` after a JSON patch; a failed `test` or a missing path is 422 as in the real server."""
    if not isinstance(operations, list):
        raise errors.bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    try:
        result = jsonpatch.apply_patch(target, operations)
    except jsonpatch.InvalidJsonPatch as error:
        raise errors.bad_request(f"error decoding patch: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise errors.ApiError(
            422, "Invalid", "the server rejected our request due to an error in our request"
        ) from error
    if not isinstance(result, dict):
        raise errors.bad_request("the patched object is not an object")
    return result


def strategic(target: Any, patch: Any, schema: Json | None) -> Any:
    """Return `target` after a strategic merge patch.

    Lists merge by key where the schema carries `x-kubernetes-patch-merge-key` (and, for plain values, where its
    strategy is `merge`); the directives `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…` and
    `$setElementOrder/…` are understood.
    """
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    directive = patch.get("$patch")
    body = {key: value for key, value in patch.items() if not key.startswith("$")}
    if directive == "replace":
        return copy.deepcopy(body)
    if directive == "delete":
        return None
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in body.items():
        below, merged = _property(schema, key), None
        if isinstance(value, list):
            merged = _lists(result.get(key), value, below, patch.get(f"$setElementOrder/{key}"))
        elif value is not None:
            merged = strategic(result.get(key), value, below)
        if merged is None:
            result.pop(key, None)
        else:
            result[key] = merged
    _follow_directives(result, patch, schema)
    return result


def _follow_directives(result: Json, patch: Json, schema: Json | None) -> None:
    """Delete plain values from lists, and order the lists that the patch does not otherwise touch."""
    for key, value in patch.items():
        directive, _, name = key.partition("/")
        if directive == "$deleteFromPrimitiveList":
            result[name] = [one for one in result.get(name) or [] if one not in value]
        elif directive == "$setElementOrder" and name not in patch and name in result:
            result[name] = _ordered(result[name], value, _merge_key(_property(schema, name)))


def _property(schema: Json | None, key: str) -> Json | None:
    if not schema:
        return None
    found: Json | None = schema.get("properties", {}).get(key)
    if found is None and isinstance(schema.get("additionalProperties"), dict):
        found = schema["additionalProperties"]
    return found


def _merge_key(schema: Json | None) -> str | None:
    key: str | None = (schema or {}).get("x-kubernetes-patch-merge-key")
    return key


def _lists(target: list[Any] | None, patch: list[Any], schema: Json | None, order: list[Any] | None) -> list[Any]:
    merges = "merge" in (schema or {}).get("x-kubernetes-patch-strategy", "").split(",")
    current = list(target or [])
    if not merges or any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    key = _merge_key(schema)
    if key is None:
        current += [item for item in patch if item not in current]
        return _ordered(current, order, None)
    item_schema = (schema or {}).get("items")
    for item in patch:
        if key not in item:
            raise errors.bad_request(f"map: {item} does not contain declared merge key: {key}")
        index = next((at for at, old in enumerate(current) if old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del current[index]
        elif index is None:
            current.append(strategic({}, item, item_schema))
        else:
            current[index] = strategic(current[index], item, item_schema)
    return _ordered(current, order, key)


def _ordered(items: list[Any], order: list[Any] | None, key: str | None) -> list[Any]:
    """Return items in the order that the patch asks for; those it does not name stay behind the one they followed."""
    if not order:
        return items
    identify: Callable[[Any], Any] = (lambda item: item.get(key)) if key else (lambda item: item)
    ranks = {identify(entry): at for at, entry in enumerate(order)}
    last, placed = -1, []
    for item in items:
        last = ranks.get(identify(item), last)
        placed.append((last, item))
    return [item for _, item in sorted(placed, key=lambda pair: pair[0])]
