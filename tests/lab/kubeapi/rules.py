"""`x-kubernetes-validations`: CEL rules of a schema, checked against the new and the old object.

A rule that mentions `oldSelf` runs only where there is an old value: at the same field, or in a list with keys at the
item with the same keys. Rules over Kubernetes' own CEL library (quantities, URLs, regular expression search) are not
known here and make the definition invalid instead of being skipped.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from cel_expr_python import cel

from . import schema as schemas
from .errors import Cause, Json

_MISSING = object()


@functools.cache
def _environment() -> cel.Env:
    from cel_expr_python.ext import ext_strings

    variables = {"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}
    return cel.NewEnv(variables=variables, extensions=[ext_strings.ExtStrings()])


@functools.lru_cache(maxsize=512)
def _program(rule: str) -> cel.Expression:
    return _environment().compile(rule)


def problems(schema: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, error) of every rule in a schema that does not compile."""
    for index, rule in enumerate(schema.get("x-kubernetes-validations", [])):
        for field in ("rule", "messageExpression"):
            if rule.get(field):
                try:
                    _program(rule[field])
                except Exception as error:
                    yield f"{path}.x-kubernetes-validations[{index}].{field}", str(error)
    for name, below in schema.get("properties", {}).items():
        yield from problems(below, f"{path}.properties[{name}]")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield from problems(schema[part], f"{path}.{part}")


def has_rules(schema: Json) -> bool:
    """Tell whether any level of a schema has rules."""
    if schema.get("x-kubernetes-validations"):
        return True
    parts = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return any(has_rules(part) for part in parts if isinstance(part, dict))


def causes(schema: Json, new: Any, old: Any = _MISSING, path: str = "") -> Iterator[Cause]:
    """Yield the rules that a value breaks; pass `old` only for an update."""
    for rule in schema.get("x-kubernetes-validations", []):
        yield from _broken(rule, new, old, path)
    keys = schema.get("x-kubernetes-list-map-keys", []) if schema.get("x-kubernetes-list-type") == "map" else []
    before: dict[Any, Any] = old if isinstance(old, dict) else {}
    if keys and isinstance(old, list):
        before = {_identity(item, keys): item for item in old}
    for key, below, value in schemas.children(schema, new):
        match = before.get(_identity(value, keys) if isinstance(key, int) else key, _MISSING)
        yield from causes(below, value, match, schemas.at(path, key))


def _identity(item: Any, keys: list[str]) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in keys) if isinstance(item, dict) else ()


def _broken(rule: Json, new: Any, old: Any, path: str) -> Iterator[Cause]:
    about_change = re.search(r"\boldSelf\b", rule["rule"]) is not None
    if about_change and old is _MISSING:
        return
    data = {"self": new, "oldSelf": None if old is _MISSING else old}
    try:
        verdict = _program(rule["rule"]).eval(data=data).value()
    except Exception as error:
        verdict = error
    if verdict is True:
        return
    message = rule.get("message") or f"failed rule: {rule['rule']}"
    if rule.get("messageExpression"):
        text = _program(rule["messageExpression"]).eval(data=data).value()
        message = text if isinstance(text, str) and text else message
    field = schemas.at(path, rule["fieldPath"].lstrip(".")) if rule.get("fieldPath") else path
    if isinstance(verdict, bool):
        reason = rule.get("reason", "FieldValueInvalid")
        words = {"FieldValueForbidden": "Forbidden: ", "FieldValueRequired": "Required value: "}
        value = "" if isinstance(new, (dict, list)) else f"{schemas.shown(new)}: "
        prefix = words.get(reason) or f"Invalid value: {value}"
        yield Cause(reason, prefix + message, field)
    else:
        yield Cause("FieldValueInvalid", f"Invalid value: {_summary(new)}: {verdict} evaluating rule: {message}", field)


def _summary(value: Any) -> str:
    return '"object"' if isinstance(value, dict) else '"array"' if isinstance(value, list) else schemas.shown(value)
