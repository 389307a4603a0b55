"""CustomResourceDefinitions: checked, given a status, and turned into served kinds."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from . import meta, models, rules, tables
from . import schema as schemas
from .errors import Cause, Json
from .resources import WRITABLE, Column, Resource

PLURAL = "customresourcedefinitions"
COLLECTION = ("apiextensions.k8s.io", PLURAL)
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer that holds a definition until its objects are gone."""


_BLOCKING = {f"FieldValue{word}" for word in ("NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid")}
"""Violations after which a real server leaves the rules unchecked, and says so."""

_UNCHECKED = Cause(
    "FieldValueInvalid",
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing"
    " errors to complete validation",
    "<nil>",
)


def default(crd: Json) -> None:
    """Fill in names and defaults of a definition, in place."""
    spec = crd.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})


def check(crd: Json, old: Json | None) -> list[Cause]:
    """Return what is wrong with a definition: names, versions, and schemas that are not structural."""
    causes = list(schemas.missing(models.schema("v1_custom_resource_definition"), crd))
    if causes:
        return causes
    spec = crd["spec"]
    versions, wanted = spec["versions"], f"{spec['names']['plural']}.{spec['group']}"
    if crd["metadata"]["name"] != wanted:
        message = f'Invalid value: "{crd["metadata"]["name"]}": must be spec.names.plural+"."+spec.group'
        causes.append(Cause("FieldValueInvalid", message, "metadata.name"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        message = "Invalid value: must have exactly one version marked as storage version"
        causes.append(Cause("FieldValueInvalid", message, "spec.versions"))
    for index, version in enumerate(versions):
        causes += _version_causes(version, f"spec.versions[{index}]")
    if old is not None:
        for field in ("group", "scope"):
            if spec.get(field) != old["spec"].get(field):
                message = f'Invalid value: "{spec.get(field)}": field is immutable'
                causes.append(Cause("FieldValueInvalid", message, f"spec.{field}"))
    return causes


def _version_causes(version: Json, path: str) -> Iterator[Cause]:
    for index, column in enumerate(version.get("additionalPrinterColumns") or []):
        yield from _column_causes(column, f"{path}.additionalPrinterColumns[{index}]")
    body, path = (version.get("schema") or {}).get("openAPIV3Schema"), f"{path}.schema.openAPIV3Schema"
    if body is None:
        yield Cause("FieldValueRequired", "Required value: schemas are required", path)
        return
    unstructural = list(_structural(body, path))
    yield from unstructural or _unfit_defaults(body, path)
    for where, problem in rules.problems(body, path):
        yield Cause("FieldValueInvalid", f"Invalid value: compilation failed: {problem}", where)


def _column_causes(column: Json, path: str) -> Iterator[Cause]:
    try:
        tables.at_path(column["jsonPath"], column["type"])
    except ValueError as error:
        yield Cause("FieldValueInvalid", f"Invalid value: {error}", f"{path}.jsonPath")


def _structural(schema: Json, path: str) -> Iterator[Cause]:
    """Yield what keeps a schema from being structural, or from being a schema at all."""
    kind = schema.get("type")
    if not kind and not schema.get(schemas.INT_OR_STRING) and not schema.get(schemas.OPEN):
        message = "Required value: must not be empty for specified object fields"
        yield Cause("FieldValueRequired", message, f"{path}.type")
    elif kind and kind not in _TYPES:
        listed = ", ".join(f'"{one}"' for one in _TYPES)
        message = f'Unsupported value: "{kind}": supported values: {listed}'
        yield Cause("FieldValueNotSupported", message, f"{path}.type")
    if schema.get("properties") and schema.get("additionalProperties"):
        message = "Forbidden: must not be used together with properties"
        yield Cause("FieldValueForbidden", message, f"{path}.additionalProperties")
    if kind == "array" and not schema.get("items"):
        yield Cause("FieldValueRequired", "Required value: must be specified", f"{path}.items")
    try:
        re.compile(schema.get("pattern", ""))
    except re.error as error:
        yield Cause(
            "FieldValueInvalid", f"Invalid value: must be a valid regular expression: {error}", f"{path}.pattern"
        )
    for where, below in _parts(schema):
        if not (path.endswith("openAPIV3Schema") and where == "properties[metadata]"):
            yield from _structural(below, f"{path}.{where}")


_TYPES = ("array", "boolean", "integer", "number", "object", "string")


def _parts(schema: Json) -> Iterator[tuple[str, Json]]:
    for name, below in schema.get("properties", {}).items():
        yield f"properties[{name}]", below
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield part, schema[part]


def _unfit_defaults(schema: Json, path: str) -> Iterator[Cause]:
    """Yield the defaults that their own schema refuses; only for schemas that are structural."""
    if "default" in schema:
        for cause in schemas.Validator(schema).causes(schema["default"]):
            yield Cause(cause.reason, cause.message, f"{path}.default")
    for where, below in _parts(schema):
        yield from _unfit_defaults(below, f"{path}.{where}")


def establish(crd: Json) -> Json:
    """Return a definition with the status of an accepted one, ready to be stored."""
    new = meta.touched(crd)
    stored = next(version["name"] for version in crd["spec"]["versions"] if version.get("storage"))
    old, time = crd.get("status", {}), meta.stamp(meta.now())
    known = {condition["type"]: condition for condition in old.get("conditions") or []}
    for kind, reason, message in (
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ):
        known.setdefault(
            kind, {"lastTransitionTime": time, "message": message, "reason": reason, "status": "True", "type": kind}
        )
    stored_versions = old.get("storedVersions") or []
    new["status"] = {
        **old,
        "acceptedNames": dict(crd["spec"]["names"]),
        "conditions": list(known.values()),
        "storedVersions": stored_versions if stored in stored_versions else [*stored_versions, stored],
    }
    return new


def resources(crd: Json) -> list[Resource]:
    """Return the kinds that a definition serves, the preferred version first."""
    served = [version for version in crd["spec"]["versions"] if version.get("served")]
    return [_resource(crd, version) for version in sorted(served, key=lambda one: _rank(one["name"]))]


def _rank(version: str) -> tuple[int, int, int, str]:
    """Order versions as discovery does: stable before beta before alpha, higher first, others last by name."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return 3, 0, 0, version
    return {None: 0, "beta": 1, "alpha": 2}[match[2]], -int(match[1]), -int(match[3] or 0), ""


def _resource(crd: Json, version: Json) -> Resource:
    spec, names = crd["spec"], crd["spec"]["names"]
    body = version["schema"]["openAPIV3Schema"]
    whole = functools.cache(lambda: schemas.object_schema(body))
    validator = functools.cache(lambda: schemas.Validator(whole()))
    with_rules = rules.has_rules(body)

    def validate(new: Json, old: Json | None) -> list[Cause]:
        causes = validator().causes(new)
        if with_rules and any(cause.reason in _BLOCKING for cause in causes):
            causes.append(_UNCHECKED)
        elif with_rules:
            causes += rules.causes(body, new) if old is None else rules.causes(body, new, old)
        return causes

    return Resource(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=WRITABLE,
        status="status" in (version.get("subresources") or {}),
        custom=True,
        generation=True,
        unconditional_update=False,
        selectable=frozenset(one["jsonPath"].lstrip(".") for one in version.get("selectableFields") or ()),
        columns=_columns(version),
        schema=whole,
        default=lambda obj: schemas.apply_defaults(body, obj),
        check=validate,
    )


def _columns(version: Json) -> list[Column]:
    declared = version.get("additionalPrinterColumns")
    if not declared:
        declared = [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    return [
        tables.NAME,
        *(
            Column(
                name=one["name"],
                cell=tables.at_path(one["jsonPath"], one["type"]),
                type=one["type"],
                format=one.get("format", ""),
                priority=one.get("priority", 0),
                description=one.get("description", ""),
            )
            for one in declared
        ),
    ]


def owns(crd: Json, collection: tuple[str, str]) -> bool:
    """Tell whether a collection holds the objects of this definition."""
    return collection == (crd["spec"]["group"], crd["spec"]["names"]["plural"])


def is_established(crd: Json) -> bool:
    """Tell whether a definition has been accepted, i.e. is served."""
    conditions: list[Any] = crd.get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
