"""Deletion: finalizers, grace for pods, preconditions, owners, namespaces."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.kube_http import MERGE, Json, eventually
from tests.support.kube_probe import Cluster, Space, config_map, ferry, pod

HOLD = "probe.podferry.dev/hold"


@pytest.fixture
def collecting(cluster: Cluster) -> None:
    if not cluster.collects_garbage:
        pytest.skip("needs kube-controller-manager beside kube-apiserver")


def _held(body: Json) -> Json:
    body["metadata"]["finalizers"] = [HOLD]
    return body


def _gone(space: Space, plural: str, name: str) -> bool:
    return space.http.call("GET", space.path(plural, name)).status == 404


def test_deletion_at_once(space: Space) -> None:
    made = space.create("ferries", ferry())
    answer = space.http.expect(200, "DELETE", space.path("ferries", "one"))
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {
        "name": "one",
        "group": "probe.podferry.dev",
        "kind": "ferries",
        "uid": made["metadata"]["uid"],
    }
    assert space.http.call("DELETE", space.path("ferries", "one")).status == 404


def test_a_finalizer_holds_an_object(space: Space) -> None:
    space.create("ferries", _held(ferry()))
    path = space.path("ferries", "one")
    held = space.http.expect(200, "DELETE", path)["metadata"]
    assert held["deletionTimestamp"]
    assert held["deletionGracePeriodSeconds"] == 0
    assert held["generation"] == 2
    again = space.http.expect(200, "DELETE", path)["metadata"]
    assert again["resourceVersion"] == held["resourceVersion"]
    more = space.http.call("PATCH", path, {"metadata": {"finalizers": [HOLD, "probe.podferry.dev/more"]}}, kind=MERGE)
    assert (more.status, more.causes) == (422, {("FieldValueForbidden", "metadata.finalizers")})
    space.http.expect(200, "PATCH", path, {"metadata": {"labels": {"still": "writable"}}}, kind=MERGE)
    last = space.http.expect(200, "PATCH", path, {"metadata": {"finalizers": None}}, kind=MERGE)
    assert "finalizers" not in last["metadata"]
    assert _gone(space, "ferries", "one")


def test_the_end_is_seen_by_watches(space: Space) -> None:
    made = space.create("ferries", _held(ferry()))
    path = space.path("ferries", "one")
    space.http.expect(200, "DELETE", path)
    space.http.expect(200, "PATCH", path, {"metadata": {"finalizers": []}}, kind=MERGE)
    seen = space.http.events(space.path("ferries"), 2, resourceVersion=made["metadata"]["resourceVersion"])
    assert [event["type"] for event in seen] == ["MODIFIED", "DELETED"]
    assert seen[0]["object"]["metadata"]["deletionTimestamp"]


def test_preconditions(space: Space) -> None:
    made = space.create("configmaps", config_map())
    path = space.path("configmaps", "one")
    for wrong in ({"uid": "11111111-1111-1111-1111-111111111111"}, {"resourceVersion": "1"}):
        answer = space.http.call("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": wrong})
        assert (answer.status, answer.reason) == (409, "Conflict")
    right = {key: made["metadata"][key] for key in ("uid", "resourceVersion")}
    space.http.expect(200, "DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": right})


def test_a_pod_on_a_node_waits_for_its_kubelet(space: Space) -> None:
    space.create("pods", pod(nodeName="no-such-node", terminationGracePeriodSeconds=20))
    path = space.path("pods", "one")
    ending = space.http.expect(200, "DELETE", path)["metadata"]
    assert ending["deletionGracePeriodSeconds"] == 20
    assert ending["deletionTimestamp"] > ending["creationTimestamp"]
    assert (
        space.http.expect(200, "DELETE", path, gracePeriodSeconds="30")["metadata"]["deletionGracePeriodSeconds"] == 20
    )
    sooner = space.http.expect(200, "DELETE", path, {"gracePeriodSeconds": 5})["metadata"]
    assert sooner["deletionGracePeriodSeconds"] == 5
    assert sooner["deletionTimestamp"] <= ending["deletionTimestamp"]
    status = {"status": {"phase": "Running"}}
    space.http.expect(200, "PATCH", f"{path}/status", status, kind=MERGE)
    done = {"gracePeriodSeconds": 0, "preconditions": {"uid": ending["uid"]}}
    assert space.http.expect(200, "DELETE", path, done)["metadata"]["uid"] == ending["uid"]
    assert _gone(space, "pods", "one")


def test_pods_that_nobody_runs_go_at_once(space: Space) -> None:
    space.create("pods", pod("unbound"))
    assert (
        space.http.expect(200, "DELETE", space.path("pods", "unbound"))["metadata"]["deletionGracePeriodSeconds"] == 0
    )
    assert _gone(space, "pods", "unbound")
    space.create("pods", pod("done", nodeName="no-such-node"))
    path = space.path("pods", "done")
    space.http.expect(200, "PATCH", f"{path}/status", {"status": {"phase": "Succeeded"}}, kind=MERGE)
    space.http.expect(200, "DELETE", path)
    assert _gone(space, "pods", "done")


def test_a_pods_finalizer_outlasts_its_kubelet(space: Space) -> None:
    space.create("pods", _held(pod(nodeName="no-such-node")))
    path = space.path("pods", "one")
    space.http.expect(200, "DELETE", path)
    left = space.http.expect(200, "DELETE", path, {"gracePeriodSeconds": 0})["metadata"]
    assert left["deletionGracePeriodSeconds"] == 0
    space.http.expect(200, "PATCH", path, {"metadata": {"finalizers": None}}, kind=MERGE)
    assert _gone(space, "pods", "one")


def test_deleting_a_collection(space: Space) -> None:
    for name in ("a", "b", "c"):
        body = ferry(name)
        body["metadata"]["labels"] = {"half": "first" if name < "c" else "second"}
        space.create("ferries", body)
    deleted = space.http.expect(200, "DELETE", space.path("ferries"), labelSelector="half=first")
    assert deleted["kind"] in {"FerryList", "Status"}
    left = space.http.expect(200, "GET", space.path("ferries"))["items"]
    assert [one["metadata"]["name"] for one in left] == ["c"]


def _owned(name: str, owner: Json, **more: Any) -> Json:
    body = config_map(name)
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    identity = {key: owner["metadata"][key] for key in ("name", "uid")}
    body["metadata"]["ownerReferences"] = [reference | identity | more]
    return body


@pytest.mark.usefixtures("collecting")
def test_dependents_follow_their_owner(space: Space) -> None:
    owner, other = space.create("ferries", ferry()), space.create("ferries", ferry("other"))
    space.create("configmaps", _owned("only", owner))
    both = _owned("both", owner)
    both["metadata"]["ownerReferences"] += _owned("x", other)["metadata"]["ownerReferences"]
    space.create("configmaps", both)
    space.http.expect(200, "DELETE", space.path("ferries", "one"), propagationPolicy="Background")
    eventually(lambda: _gone(space, "configmaps", "only"))
    assert not _gone(space, "configmaps", "both")
    space.http.expect(200, "DELETE", space.path("ferries", "other"))
    eventually(lambda: _gone(space, "configmaps", "both"))


@pytest.mark.usefixtures("collecting")
def test_dependents_of_nobody_go(space: Space) -> None:
    owner = space.create("ferries", ferry())
    space.http.expect(200, "DELETE", space.path("ferries", "one"))
    space.create("configmaps", _owned("late", owner))
    eventually(lambda: _gone(space, "configmaps", "late"))


@pytest.mark.usefixtures("collecting")
def test_foreground_deletion_waits_for_dependents(space: Space) -> None:
    owner = space.create("ferries", ferry())
    space.create("configmaps", _held(_owned("blocks", owner, blockOwnerDeletion=True)))
    # The real collector learns of the dependent by a watch of its own; without that knowledge it would not wait.
    marked = _owned("follows", owner)
    space.create("configmaps", marked)
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
    ending = space.http.call("DELETE", space.path("ferries", "one"), options)
    assert ending.status in {200, 202}
    assert ending.body["metadata"]["finalizers"] == ["foregroundDeletion"]
    eventually(lambda: _gone(space, "configmaps", "follows"))
    blocking = space.path("configmaps", "blocks")
    eventually(lambda: space.http.expect(200, "GET", blocking)["metadata"].get("deletionTimestamp"))
    assert not _gone(space, "ferries", "one")
    space.http.expect(200, "PATCH", blocking, {"metadata": {"finalizers": None}}, kind=MERGE)
    eventually(lambda: _gone(space, "ferries", "one"))


@pytest.mark.usefixtures("collecting")
def test_orphans_stay(space: Space) -> None:
    owner = space.create("ferries", ferry())
    space.create("configmaps", _owned("left", owner))
    space.http.call("DELETE", space.path("ferries", "one"), propagationPolicy="Orphan")
    eventually(lambda: _gone(space, "ferries", "one"))
    left = space.http.expect(200, "GET", space.path("configmaps", "left"))
    assert "ownerReferences" not in left["metadata"]


@pytest.mark.usefixtures("collecting")
def test_a_namespace_is_emptied_first(space: Space) -> None:
    space.create("configmaps", _held(config_map("held")))
    space.create("ferries", ferry())
    path = f"/api/v1/namespaces/{space.name}"
    ending = space.http.expect(200, "DELETE", path)
    assert ending["status"]["phase"] == "Terminating"
    eventually(lambda: _gone(space, "ferries", "one"))
    refused = space.http.call("POST", space.path("configmaps"), config_map("late"))
    assert (refused.status, refused.reason) == (403, "Forbidden")
    assert space.http.call("GET", path).status == 200
    space.http.expect(200, "PATCH", space.path("configmaps", "held"), {"metadata": {"finalizers": None}}, kind=MERGE)
    eventually(lambda: space.http.call("GET", path).status == 404, seconds=60)
