"""Who is behind a Service after Commit: bridging slices, and endpoints that were made by hand."""

from __future__ import annotations

from typing import Any

from tests.support.operator_objects import UID, Object, migration, pod

from podferry_operator.api.migration import PodPlace
from podferry_operator.domain import actions, bridging, manual_endpoints
from podferry_operator.domain.observation import Network

SOURCE = PodPlace("a", "web", "uid-of-web", "10.0.0.1")
TARGET = pod("web-aaaaa", "b")


def _service(selector: Object | None = None, **spec: Any) -> Object:
    spec = {"ports": [{"name": "http", "port": 80, "targetPort": "http"}], "ipFamilies": ["IPv4"], **spec}
    return {"metadata": {"name": "web"}, "spec": {"selector": selector, **spec}}


def _slice(manager: str | None, *endpoints: Object, name: str = "web-x1") -> Object:
    labels = {bridging.SERVICE_LABEL: "web"} | ({bridging.MANAGER_LABEL: manager} if manager else {})
    return {"metadata": {"name": name, "labels": labels}, "addressType": "IPv4", "endpoints": list(endpoints)}


def _endpoint(uid: str, *, ready: bool) -> Object:
    return {"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "uid": uid}}


def _changes(network: Network) -> list[actions.Action]:
    return list(bridging.changes(network, TARGET, UID))


def test_a_bridge_is_built_until_the_ordinary_slice_has_the_target() -> None:
    service = _service({"app": "web"})
    waiting = _slice(bridging.ORDINARY_MANAGER, _endpoint("uid-of-web-aaaaa", ready=False))
    (create,) = _changes(Network((service,), (waiting,)))
    assert isinstance(create, actions.CreateSlice)
    body = dict(create.body)
    assert body["endpoints"][0]["addresses"] == ["10.0.0.1"]
    assert body["endpoints"][0]["conditions"]["ready"] is True
    assert body["endpoints"][0]["nodeName"] == "b"
    assert body["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert body["metadata"]["ownerReferences"][0]["uid"] == "uid-of-web-aaaaa"
    assert not _changes(Network((service,), (waiting, body)))
    ready = _slice(bridging.ORDINARY_MANAGER, _endpoint("uid-of-web-aaaaa", ready=True))
    assert _changes(Network((service,), (ready, body))) == [actions.DeleteSlice(body["metadata"]["name"])]


def test_no_bridge_where_nobody_makes_slices_or_the_pod_is_not_selected() -> None:
    ordinary = _slice(bridging.ORDINARY_MANAGER)
    assert not _changes(Network((_service({"app": "web"}),), ()))
    assert not _changes(Network((_service({"app": "other"}),), (ordinary,)))
    assert not _changes(Network((_service(None),), (ordinary,)))


def test_the_other_migrations_bridge_is_left_alone() -> None:
    theirs = _slice(bridging.BRIDGE_MANAGER)
    theirs["metadata"]["labels"]["podferry.dev/migrated-by"] = "another"
    assert not _changes(Network((), (theirs,)))


def test_a_hand_made_slice_follows_the_pod() -> None:
    mine = {
        "addresses": ["10.0.0.1"],
        "nodeName": "a",
        "conditions": {"ready": True},
        "targetRef": {"kind": "Pod", "name": "web", "namespace": "default", "uid": "uid-of-web"},
    }
    other = {"addresses": ["10.0.0.7"], "nodeName": "a", "targetRef": {"kind": "Pod", "uid": "else"}}
    found = _slice(None, mine, other)
    found["metadata"]["resourceVersion"] = "7"
    (change,) = manual_endpoints.changes(Network((_service(None),), (found,)), SOURCE, TARGET)
    assert isinstance(change, actions.ReplaceSlice)
    assert change.body["metadata"]["resourceVersion"] == "7"
    assert change.body["endpoints"] == [
        {
            "addresses": ["10.0.0.1"],
            "nodeName": "b",
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": "web-aaaaa", "namespace": "default", "uid": "uid-of-web-aaaaa"},
        },
        other,
    ]
    assert not list(manual_endpoints.changes(Network((_service(None),), (change.body,)), SOURCE, TARGET))


def test_hand_made_endpoints_follow_the_pod_by_address_and_node() -> None:
    entries = [{"ip": "10.0.0.1", "nodeName": "a"}, {"ip": "10.0.0.1", "nodeName": "c"}, {"ip": "10.0.0.1"}]
    found = {"metadata": {"name": "web"}, "subsets": [{"addresses": entries, "ports": [{"port": 80}]}]}
    (change,) = manual_endpoints.changes(Network((_service(None),), (), (found,)), SOURCE, TARGET)
    assert isinstance(change, actions.ReplaceEndpoints)
    assert change.body["subsets"][0]["addresses"] == [{"ip": "10.0.0.1", "nodeName": "b"}, *entries[1:]]


def test_what_a_controller_maintains_is_left_to_it() -> None:
    named = {"addresses": ["10.0.0.1"], "nodeName": "a"}
    mirrored = _slice("endpointslicemirroring-controller.k8s.io", named)
    assert not list(manual_endpoints.changes(Network((_service(None),), (mirrored,)), SOURCE, TARGET))
    by_hand = _slice(None, named)
    assert not list(manual_endpoints.changes(Network((_service({"app": "web"}),), (by_hand,)), SOURCE, TARGET))


def test_the_migration_records_what_it_needs_for_that() -> None:
    status = {"source": {"node": "a", "podName": "web", "podUID": "uid-of-web", "address": "10.0.0.1"}}
    assert migration(status=status).source == SOURCE
