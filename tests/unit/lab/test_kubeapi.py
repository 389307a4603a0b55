"""The pure parts of the embedded Kubernetes API."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lab.kubeapi import apply, errors, patch, protobuf, rules, schema, selectors, tables


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (600, "10m"),
        (10800, "3h"),
        (11160, "3h6m"),
        (172800, "2d"),
    ],
)
def test_durations(seconds: int, text: str) -> None:
    assert tables.duration(seconds) == text


@pytest.mark.parametrize(
    ("path", "kind", "value"),
    [
        (".spec.a", "string", "x"),
        ("{.spec}", "string", None),
        (".spec.n", "integer", 3),
        (".spec.n", "string", "3"),
        (".spec.missing.deep", "string", None),
        ('.status.conditions[?(@.type=="Ready")].status', "string", "True"),
        (".status.conditions[0].type", "string", "Other"),
        (".metadata.annotations.a\\.b/c", "string", "dotted"),
        (".spec.flag", "boolean", True),
        (".spec.flag", "integer", None),
    ],
)
def test_printer_column_paths(path: str, kind: str, value: Any) -> None:
    obj = {
        "metadata": {"annotations": {"a.b/c": "dotted"}},
        "spec": {"a": "x", "n": 3, "flag": True},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }
    if path.startswith("{"):
        with pytest.raises(ValueError, match="unsupported"):
            tables.at_path(path, kind)
    else:
        assert tables.at_path(path, kind)(obj) == value


def test_field_selectors_refuse_unknown_fields() -> None:
    assert selectors.fields("status.phase!=Failed,metadata.name=a", {"status.phase"})({"metadata": {"name": "a"}})
    with pytest.raises(errors.ApiError, match="not supported"):
        selectors.fields("spec.other=1", {"status.phase"})


_LISTS = {
    "properties": {
        "items": {
            "x-kubernetes-patch-strategy": "merge",
            "x-kubernetes-patch-merge-key": "name",
            "items": {"properties": {"tags": {"x-kubernetes-patch-strategy": "merge"}}},
        }
    }
}


def test_strategic_merge_directives() -> None:
    old = {"items": [{"name": "a", "v": 1, "tags": ["x", "y"]}, {"name": "b"}], "map": {"k": 1, "l": 2}}
    change = {
        "$setElementOrder/items": [{"name": "c"}, {"name": "a"}],
        "items": [
            {"name": "c"},
            {"name": "a", "v": 2, "$deleteFromPrimitiveList/tags": ["x"]},
            {"name": "b", "$patch": "delete"},
        ],
        "map": {"$retainKeys": ["l"], "l": 3},
    }
    assert patch.strategic(old, change, _LISTS) == {
        "items": [{"name": "c"}, {"name": "a", "v": 2, "tags": ["y"]}],
        "map": {"l": 3},
    }
    assert patch.strategic(old, {"map": {"$patch": "replace", "z": 1}}, _LISTS)["map"] == {"z": 1}
    assert old["items"][0]["v"] == 1  # type: ignore[index]


def test_defaults_fill_what_is_missing_or_null() -> None:
    structure = {
        "properties": {
            "a": {"default": {"b": 1}, "properties": {"b": {"default": 2}, "c": {"default": 3}}},
            "n": {"nullable": True, "default": 1},
            "l": {"items": {"properties": {"d": {"default": 4}}}},
        }
    }
    value: dict[str, Any] = {"a": None, "n": None, "l": [{}, {"d": 5}]}
    schema.apply_defaults(structure, value)
    assert value == {"a": {"b": 1, "c": 3}, "n": None, "l": [{"d": 4}, {"d": 5}]}


def test_rules_follow_list_items_by_key() -> None:
    rule = {"rule": "self == oldSelf", "message": "fixed"}
    items = {"properties": {"name": {}, "size": {"x-kubernetes-validations": [rule]}}}
    structure = {
        "properties": {
            "l": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": items},
        }
    }
    old = {"l": [{"name": "a", "size": 1}, {"name": "b", "size": 2}]}
    assert not list(rules.causes(structure, {"l": [{"name": "b", "size": 2}, {"name": "new", "size": 9}]}, old))
    (cause,) = rules.causes(structure, {"l": [{"name": "b", "size": 3}]}, old)
    assert (cause.field, "fixed" in cause.message) == ("l[0].size", True)
    assert not list(rules.causes(structure, {"l": [{"name": "b", "size": 3}]}))
    (unusable,) = rules.problems({"x-kubernetes-validations": [{"rule": "self +"}]})
    assert unusable[0].endswith("[0].rule")


def test_fields_fold_and_unfold() -> None:
    structure = {"properties": {"l": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}}}
    owned = frozenset(apply.fields({"l": [{"name": "a", "v": 1}], "m": {"x": 1, "y": {}}}, structure))
    obj: dict[str, Any] = {"apiVersion": "v1", "metadata": {}}
    manager = apply.Manager("me", "Apply")
    apply.write_accounts(obj, {manager: owned}, None)
    assert obj["metadata"]["managedFields"][0]["fieldsV1"] == {
        "f:l": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:v": {}}},
        "f:m": {"f:x": {}, "f:y": {}},
    }
    assert apply.accounts(obj) == {manager: owned}


def test_protobuf_of_kubectl() -> None:
    # As `kubectl create configmap m --from-literal=a=b` sends it.
    metadata = b'\n\x11\n\x01m\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00'
    message = metadata + b"\x12\x06\n\x01a\x12\x01b"
    body = b"k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12" + bytes([len(message)]) + message + b'\x1a\x00"\x00'
    assert protobuf.decode(body) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "m"},
        "data": {"a": "b"},
    }
    with pytest.raises(errors.ApiError, match="no protobuf for Deployment"):
        protobuf.decode(b"k8s\x00\n\x15\n\x07apps/v1\x12\nDeployment\x12\x00")
