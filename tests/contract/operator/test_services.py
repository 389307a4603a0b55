"""Services keep an endpoint from Commit on, and finished orders do not stay for ever."""

from __future__ import annotations

from typing import Any

from tests.support import kubectl, stage

from podferry.steps import Step
from podferry_operator.clients import kube
from podferry_operator.domain import bridging


def _service(place: stage.Stage, selector: dict[str, str] | None) -> None:
    spec: dict[str, Any] = {"ports": [{"port": 80, "targetPort": "http"}], "ipFamilies": ["IPv4"]}
    body = {"metadata": {"name": "web"}, "spec": spec | ({"selector": selector} if selector else {})}
    stage.run(place.api.create(kube.SERVICES, place.namespace, body))


def _slice(place: stage.Stage, pod: stage.Object, manager: str | None, *, ready: bool) -> stage.Object:
    labels = {bridging.SERVICE_LABEL: "web"} | ({bridging.MANAGER_LABEL: manager} if manager else {})
    reference = {
        "kind": "Pod",
        "namespace": place.namespace,
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-x1", "namespace": place.namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": "TCP", "port": 80}],
        "endpoints": [
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": ready},
                "nodeName": pod["spec"]["nodeName"],
                "targetRef": reference,
            }
        ],
    }


def _bridges(place: stage.Stage) -> list[stage.Object]:
    labels = f"{bridging.MANAGER_LABEL}={bridging.BRIDGE_MANAGER}"
    return stage.run(place.api.list(kube.SLICES, place.namespace, labels=labels))


def test_a_bridging_slice_stands_until_the_ordinary_one_does(place: stage.Stage) -> None:
    source = place.pod()
    _service(place, {"app": "web"})
    ordinary = _slice(place, source, bridging.ORDINARY_MANAGER, ready=True)
    stage.run(place.api.create(kube.SLICES, place.namespace, ordinary))
    place.a.script.hold_at = {Step.COMMIT, Step.RESUME}
    uid = place.migrate()
    name = f"web-{uid[:5]}"
    place.kubelets.unready.add(name)
    place.a.wait_for(Step.COMMIT)
    assert not _bridges(place)
    place.a.release(Step.COMMIT)
    (bridge,) = stage.until("the bridge stands", lambda: _bridges(place))
    assert bridge["endpoints"][0]["targetRef"]["name"] == name
    assert bridge["endpoints"][0]["conditions"]["ready"] is True
    assert bridge["ports"][0]["port"] == 80
    place.a.release()
    stage.until("the source pod is gone", lambda: place.get(kube.PODS, "web") is None)
    assert _bridges(place)
    place.kubelets.unready.clear()
    target = stage.until("the target is Ready", lambda: place.running(name))
    assert _bridges(place)
    standing = place.get(kube.SLICES, "web-x1")
    assert standing is not None
    version = {"resourceVersion": standing["metadata"]["resourceVersion"]}
    ordinary = _slice(place, target, bridging.ORDINARY_MANAGER, ready=True)
    stage.run(place.api.replace(kube.SLICES, ordinary | {"metadata": ordinary["metadata"] | version}))
    assert place.end()["conditions"][-1]["reason"] == "Moved"
    assert not _bridges(place)


def test_hand_made_endpoints_follow(place: stage.Stage) -> None:
    source = place.pod()
    _service(place, None)
    stage.run(place.api.create(kube.SLICES, place.namespace, _slice(place, source, None, ready=True)))
    address = {"ip": source["status"]["podIP"], "nodeName": place.a.node}
    endpoints = {"metadata": {"name": "web"}, "subsets": [{"addresses": [address], "ports": [{"port": 80}]}]}
    stage.run(place.api.create(kube.ENDPOINTS, place.namespace, endpoints))
    uid = place.migrate()
    place.end()
    found = place.get(kube.SLICES, "web-x1")
    assert found is not None
    assert found["endpoints"][0]["targetRef"]["name"] == f"web-{uid[:5]}"
    assert found["endpoints"][0]["nodeName"] == place.b.node
    classic = place.get(kube.ENDPOINTS, "web")
    assert classic is not None
    assert classic["subsets"][0]["addresses"][0]["nodeName"] == place.b.node


def test_there_and_back_again(place: stage.Stage) -> None:
    place.pod()
    first = place.migrate("there")
    place.end("there")
    second = place.migrate("back", pod=f"web-{first[:5]}", node=place.a.node)
    assert place.end("back")["conditions"][-1]["reason"] == "Moved"
    pod = place.running(f"web-{second[:5]}")
    assert pod is not None
    assert pod["spec"]["nodeName"] == place.a.node
    assert pod["spec"]["hostname"] == "web"


def test_a_finished_order_is_deleted_when_its_time_is_over(place: stage.Stage) -> None:
    place.pod()
    uid = place.migrate(ttlAfterFinished="1s")
    stage.until("the order is gone", lambda: place.get(kube.MIGRATIONS, "move") is None)
    assert place.running(f"web-{uid[:5]}") is not None


def test_what_a_user_sees(place: stage.Stage) -> None:
    place.pod()
    place.migrate()
    cluster = kubectl.Kubectl(place.plane.kubeconfig, place.namespace)
    cluster.run("wait", "smig/move", "--for=condition=Succeeded", "--timeout=30s")
    heading, line = cluster.run("get", "smig").splitlines()
    assert heading.split() == ["NAME", "SUCCEEDED", "STEP", "POD", "SOURCE", "TARGET", "FREEZE", "DEAD", "AGE"]
    cells = line.split()
    assert cells[:6] == ["move", "True", "Done", "web", place.a.node, place.b.node]
    assert cells[6].endswith("s")
    described = cluster.run("describe", "smig", "move")
    assert "Moved" in described
    assert "Resume" in described
    assert "move" in cluster.run("get", "podferry")
