"""Bodies that make no sense are the client's fault, never the server's."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.kube_http import APPLY, JSON_PATCH, MERGE, STRATEGIC
from tests.support.kube_probe import Space, config_map, ferry, pod

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.mark.parametrize(
    ("plural", "body"),
    [
        ("configmaps", []),
        ("configmaps", "text"),
        ("configmaps", {"metadata": []}),
        ("configmaps", {"metadata": {"name": 3}}),
        ("configmaps", {"metadata": {"name": "a", "labels": {"a": 1}}}),
        ("configmaps", {"metadata": {"name": "a", "finalizers": "x"}}),
        ("configmaps", {"metadata": {"name": "a", "ownerReferences": [{}]}}),
        ("configmaps", {"metadata": {"name": "a"}, "data": ["x"]}),
        ("configmaps", {"metadata": {"name": "a"}, "data": {"a": {"b": 1}}}),
        ("pods", {"metadata": {"name": "a"}}),
        ("pods", {"metadata": {"name": "a"}, "spec": "x"}),
        ("pods", pod("a", containers="x")),
        ("pods", pod("a", containers=[None])),
        ("pods", pod("a", containers=[["x"]])),
        ("pods", pod("a", volumes=[3])),
        ("services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": "x"}]}}),
        ("services", {"metadata": {"name": "a"}, "spec": {"ports": [{}]}}),
        ("ferries", {"metadata": {"name": "a"}}),
        ("ferries", {**ferry("a"), "spec": "x"}),
        ("ferries", {**ferry("a"), "spec": None}),
        ("ferries", {**ferry("a"), "metadata": {"name": "a", "annotations": {"a": []}}}),
        ("ferries", ferry("a", decks="x")),
        ("ferries", ferry("a", decks=["x"])),
        ("ferries", ferry("a", labels=[])),
        ("ferries", ferry("a", tags=[{}])),
        ("ferries", ferry("a", crew="x", seats=None)),
    ],
    ids=lambda value: str(value)[:60],
)
def test_creation(space: Space, plural: str, body: Any) -> None:
    answer = space.http.call("POST", space.path(plural), body)
    assert 400 <= answer.status < 500, answer.body


@pytest.mark.parametrize(
    ("plural", "kind", "body"),
    [
        ("configmaps", MERGE, []),
        ("configmaps", MERGE, {"metadata": "x"}),
        ("configmaps", MERGE, {"metadata": {"name": "other"}}),
        ("configmaps", MERGE, {"kind": "Secret"}),
        ("configmaps", JSON_PATCH, [{"op": "jump", "path": "/a"}]),
        ("configmaps", JSON_PATCH, [{"op": "replace", "path": "", "value": 3}]),
        ("configmaps", JSON_PATCH, [{"op": "add", "path": "metadata", "value": 3}]),
        ("configmaps", STRATEGIC, {"data": "x"}),
        ("ferries", MERGE, {"spec": "x"}),
        ("ferries", MERGE, {"spec": None}),
        ("ferries", JSON_PATCH, [{"op": "remove", "path": "/spec"}]),
        ("ferries", APPLY, ["x"]),
        ("ferries", "text/plain", {"spec": {}}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_patches(space: Space, plural: str, kind: str, body: Any) -> None:
    space.create(plural, config_map() if plural == "configmaps" else ferry())
    answer = space.http.call("PATCH", space.path(plural, "one"), body, kind=kind, fieldManager="me")
    assert 400 <= answer.status < 500, answer.body


@pytest.mark.parametrize(
    "query",
    [
        {"labelSelector": "a in"},
        {"fieldSelector": "a"},
        {"continue": "x"},
        {"limit": "x"},
        {"watch": "true", "timeoutSeconds": "x"},
    ],
    ids=str,
)
def test_queries(space: Space, query: dict[str, str]) -> None:
    answer = space.http.call("GET", space.path("ferries"), **query)
    assert 400 <= answer.status < 500, answer.body


def _schema(**spec: Any) -> dict[str, Any]:
    return {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}


@pytest.mark.parametrize(
    "version",
    [
        {"schema": _schema(type="string", pattern="(")},
        {"schema": _schema(type="dream")},
        {"schema": _schema(type="integer", default="x")},
        {"schema": {"openAPIV3Schema": "x"}},
        {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": "x"}}}},
        {
            "schema": _schema(type="object"),
            "additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": "a{"}],
        },
        {"schema": _schema(type="object"), "additionalPrinterColumns": [{"name": "A", "type": "string"}]},
        {"name": None},
    ],
    ids=lambda value: str(value)[-60:],
)
def test_definitions(space: Space, version: dict[str, Any]) -> None:
    body = {
        "metadata": {"name": "odds.probe.podferry.dev"},
        "spec": {
            "group": "probe.podferry.dev",
            "scope": "Namespaced",
            "names": {"plural": "odds", "kind": "Odd"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": _schema(type="object"), **version}],
        },
    }
    answer = space.http.call("POST", DEFINITIONS, body)
    assert answer.status in {400, 422}, answer.body


@pytest.mark.parametrize("body", [[], {"propagationPolicy": "Sideways"}, {"gracePeriodSeconds": "x"}], ids=str)
def test_deletions(space: Space, body: Any) -> None:
    space.create("ferries", ferry())
    answer = space.http.call("DELETE", space.path("ferries", "one"), body)
    assert 400 <= answer.status < 500, answer.body
