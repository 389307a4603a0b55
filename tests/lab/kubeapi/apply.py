"""Server-side apply: who manages which field, merging, conflicts.

A field is a path of `f:NAME`, `k:{"KEY":"VALUE"}` (item of a list with keys) and `v:VALUE` (item of a set), as in
`FieldsV1`. Unlike a real server, this one keeps accounts of an object only from its first apply on: what stood there
before belongs to the manager `before-first-apply`, which is what real servers did when they learned the method.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

from . import errors, meta
from .errors import Json

Path = tuple[str, ...]
Fields = frozenset[Path]

_IDENTITY = {("f:apiVersion",), ("f:kind",), ("f:metadata",), ("f:metadata", "f:name"), ("f:metadata", "f:namespace")}
_NOBODYS = {"creationTimestamp", "deletionTimestamp", "generation", "managedFields", "resourceVersion", "uid"}


@dataclasses.dataclass(frozen=True)
class Manager:
    """One line of the accounts: who, how ("Apply" or "Update"), and through which subresource."""

    name: str
    operation: str
    subresource: str = ""


Accounts = dict[Manager, Fields]


def _list_keys(schema: Json) -> list[str] | None:
    """Return the keys of a list that merges by item, [] for a set, None for a list that is one value."""
    kind = schema.get("x-kubernetes-list-type")
    if kind == "map":
        return list(schema.get("x-kubernetes-list-map-keys") or [])
    if kind == "set":
        return []
    if schema.get("x-kubernetes-patch-strategy") == "merge":
        key = schema.get("x-kubernetes-patch-merge-key")
        return [key] if key else []
    return None


def _below(schema: Json, key: str) -> Json:
    others = schema.get("additionalProperties")
    found: Json = schema.get("properties", {}).get(key, others if isinstance(others, dict) else {})
    return found


def _children(value: Any, schema: Json) -> Iterator[tuple[str, Any, Json]] | None:
    """Yield (path element, value, schema) of what is managed separately below a value; None when it is one value."""
    if isinstance(value, dict) and value and schema.get("x-kubernetes-map-type") != "atomic":
        return ((f"f:{key}", item, _below(schema, key)) for key, item in value.items())
    keys = _list_keys(schema)
    if isinstance(value, list) and keys is not None:
        items = schema.get("items", {})
        return ((_element(item, keys), item, items) for item in value)
    return None


def _element(item: Any, keys: list[str]) -> str:
    if not keys:
        return f"v:{json.dumps(item)}"
    identity = {key: item[key] for key in keys if key in item}
    return f"k:{json.dumps(identity, sort_keys=True, separators=(',', ':'))}"


def fields(obj: Json, schema: Json | None) -> dict[Path, Any]:
    """Return every managed field of an object with its value; items of lists with keys are fields of their own too."""
    found: dict[Path, Any] = {}

    def walk(value: Any, below: Json, path: Path) -> None:
        children = _children(value, below)
        if children is None:
            found[path] = value
            return
        if path and path[-1].startswith("k:"):
            found[path] = None
        for element, item, part in children:
            if path != ("f:metadata",) or element[2:] not in _NOBODYS:
                walk(item, part, (*path, element))

    walk(obj, schema or {}, ())
    return {path: value for path, value in found.items() if path not in _IDENTITY}


def accounts(obj: Json) -> Accounts:
    """Read `managedFields`."""
    entries = obj.get("metadata", {}).get("managedFields") or []
    return {
        Manager(one["manager"], one["operation"], one.get("subresource", "")): frozenset(_unfold(one["fieldsV1"]))
        for one in entries
    }


def _unfold(tree: Json, path: Path = ()) -> Iterator[Path]:
    for element, below in tree.items():
        if element == ".":
            yield path
        elif below:
            yield from _unfold(below, (*path, element))
        else:
            yield (*path, element)


def write_accounts(obj: Json, managed: Accounts, old: Json | None) -> None:
    """Set `managedFields`; lines that did not change keep their time stamps."""
    before = {_line(one): one for one in ((old or {}).get("metadata", {}).get("managedFields") or [])}
    entries = []
    for manager, owned in managed.items():
        if not owned:
            continue
        entry: Json = {"manager": manager.name, "operation": manager.operation, "apiVersion": obj["apiVersion"]}
        entry |= {"fieldsType": "FieldsV1", "fieldsV1": _fold(owned)}
        if manager.subresource:
            entry["subresource"] = manager.subresource
        known = before.get(_line(entry))
        entries.append(known or {**entry, "time": meta.stamp(meta.now())})
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def _line(entry: Json) -> str:
    return json.dumps({key: value for key, value in entry.items() if key != "time"}, sort_keys=True)


def _fold(owned: Iterable[Path]) -> Json:
    tree: Json = {}
    for path in sorted(owned):
        node = tree
        for element in path:
            node = node.setdefault(element, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return tree


def after_update(old: Json, new: Json, schema: Json | None, manager: Manager) -> None:
    """Account for an ordinary write to an object that was applied before: who changes a field, manages it."""
    managed = accounts(old)
    if not managed:
        return
    before, after = fields(old, schema), fields(new, schema)
    changed = frozenset(path for path, value in after.items() if path not in before or before[path] != value)
    left = {one: (owned & after.keys()) - changed for one, owned in managed.items()}
    left[manager] = left.get(manager, frozenset()) | changed
    write_accounts(new, left, old)


def merged(old: Json, applied: Json, schema: Json | None, manager: Manager, *, force: bool) -> tuple[Json, Accounts]:
    """Return the object that results from an apply, and the new accounts; 409 when another manager disagrees."""
    managed = accounts(old)
    current, wanted = fields(old, schema), fields(applied, schema)
    if not managed and old.get("metadata", {}).get("uid"):
        managed = {Manager("before-first-apply", "Update"): frozenset(current)}
    disputed = {path for path, value in wanted.items() if path in current and current[path] != value}
    others = {one: owned for one, owned in managed.items() if one != manager}
    conflicts = [(one, path) for one, owned in others.items() for path in sorted(owned & disputed)]
    if conflicts and not force:
        raise _conflict(conflicts, applied["apiVersion"])
    others = {one: owned - disputed for one, owned in others.items()}
    kept = frozenset().union(*others.values()) if others else frozenset()
    dropped = managed.get(manager, frozenset()) - wanted.keys() - kept
    result = _merge(old, applied, schema or {})
    return _without(result, schema or {}, dropped), {**others, manager: frozenset(wanted)}


def _conflict(conflicts: list[tuple[Manager, Path]], api_version: str) -> errors.ApiError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{one.name}" using {api_version}',
            "field": _shown(path),
        }
        for one, path in conflicts
    ]
    listed = ", ".join(f'conflict with "{one.name}": {_shown(path)}' for one, path in conflicts)
    plural = "s" if len(conflicts) > 1 else ""
    message = f"Apply failed with {len(conflicts)} conflict{plural}: {listed}"
    return errors.ApiError(409, "Conflict", message, {"causes": causes})


def _shown(path: Path) -> str:
    text = ""
    for element in path:
        if element.startswith("k:"):
            pairs = json.loads(element[2:]).items()
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in pairs) + "]"
        else:
            text += f".{element[2:]}" if element.startswith("f:") else f"[={element[2:]}]"
    return text


def _merge(old: Any, applied: Any, schema: Json) -> Any:
    if isinstance(old, dict) and isinstance(applied, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        return {**old, **{key: _merge(old.get(key), value, _below(schema, key)) for key, value in applied.items()}}
    keys = _list_keys(schema)
    if isinstance(old, list) and isinstance(applied, list) and keys is not None:
        items = {_element(item, keys): item for item in old}
        for item in applied:
            element = _element(item, keys)
            items[element] = _merge(items.get(element), item, schema.get("items", {}))
        return list(items.values())
    return copy.deepcopy(applied)


def _without(value: Any, schema: Json, dropped: Iterable[Path]) -> Any:
    """Return a value without fields; a list item goes with everything in it, an object that gets empty goes too."""
    by_element: dict[str, list[Path]] = {}
    for path in dropped:
        by_element.setdefault(path[0], []).append(path[1:])
    children = _children(value, schema)
    if not by_element or children is None:
        return value
    kept = []
    for element, item, below in children:
        paths = by_element.get(element, [])
        left = item if () not in paths else None
        left = _without(left, below, [path for path in paths if path]) if left is not None else None
        if left is not None and (left != {} or item == {}):
            kept.append((element, left))
    if isinstance(value, dict):
        return {element[2:]: item for element, item in kept}
    return [item for _, item in kept]
