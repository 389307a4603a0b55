"""Label and field selectors: from the query's words to a predicate on objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from . import errors
from .errors import Json

Predicate = Callable[[Json], bool]

_REQUIREMENT = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<no>[^\s,=!<>()]+)"
    r"|(?P<key>[^\s,=!<>()]+)\s*(?:(?P<op>==|=|!=)\s*(?P<value>[^\s,=!<>()]*)"
    r"|\s(?P<set>in|notin)\s*\(\s*(?P<values>[^()]*)\))?)\s*(?:,|$)"
)


def labels(text: str) -> Predicate:
    """Parse a label selector such as `a=b,c!=d,e in (f,g),!h,i`."""
    if not text.strip():
        return lambda _: True
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    position = 0
    while position < len(text):
        match = _REQUIREMENT.match(text, position)
        if match is None:
            raise errors.bad_request(f"unable to parse requirement: {text[position:]!r}")
        tests.append(_label_test(match))
        position = match.end()
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def _label_test(match: re.Match[str]) -> Callable[[Mapping[str, str]], bool]:
    if match["absent"]:
        return lambda found, key=match["no"]: key not in found  # type: ignore[misc]
    key = match["key"]
    if match["set"]:
        values = {value.strip() for value in match["values"].split(",")}
        if match["set"] == "in":
            return lambda found: key in found and found[key] in values
        return lambda found: key not in found or found[key] not in values
    if match["op"] is None:
        return lambda found: key in found
    value = match["value"]
    if match["op"] == "!=":
        return lambda found: found.get(key) != value
    return lambda found: found.get(key) == value


def matching(selector: Mapping[str, str]) -> str:
    """Return the text of a selector that asks for all of these labels."""
    return ",".join(f"{key}={value}" for key, value in selector.items())


def value_at(obj: Json, path: str) -> str:
    """Return the text of a scalar at a dotted path; empty when there is none."""
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def fields(text: str, allowed: Collection[str]) -> Predicate:
    """Parse a field selector such as `metadata.name=a,status.phase!=Failed`; 400 for a field that is not selectable."""
    tests: list[tuple[str, bool, str]] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if match is None:
            raise errors.bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        path, operator, value = match.groups()
        if path not in allowed and path not in {"metadata.name", "metadata.namespace"}:
            raise errors.bad_request(f"field label not supported: {path}")
        tests.append((path, operator != "!=", re.sub(r"\\([\\,=])", r"\1", value)))
    return lambda obj: all((value_at(obj, path) == value) is wanted for path, wanted, value in tests)
