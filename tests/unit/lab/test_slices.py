"""The EndpointSlice that the lab's controller wants for a service."""

from __future__ import annotations

from typing import Any

from tests.lab.controllers import slices


def service(**spec: Any) -> dict[str, Any]:
    given = {"selector": {"app": "echo"}, "ports": [{"name": "echo", "port": 80, "targetPort": "web"}], **spec}
    return {"metadata": {"name": "echo", "namespace": "n", "uid": "s-1", "labels": {"tier": "x"}}, "spec": given}


def pod(name: str = "p", *, ready: bool = True, **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "n", "uid": f"u-{name}", "labels": {"app": "echo"}, **meta},
        "spec": {
            "nodeName": "node-a",
            "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.1.0.5",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def test_a_ready_pod_is_an_endpoint() -> None:
    found = slices.wanted(service(), [pod()])
    assert found["metadata"]["labels"] == {
        "tier": "x",
        "kubernetes.io/service-name": "echo",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert found["endpoints"] == [
        {
            "addresses": ["10.1.0.5"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-a",
            "targetRef": {"kind": "Pod", "namespace": "n", "name": "p", "uid": "u-p"},
        }
    ]
    assert found["ports"] == [{"name": "echo", "protocol": "TCP", "port": 8080}]
    assert slices.owned_by(found, service())


def test_a_pod_that_ends_still_serves_but_is_not_ready() -> None:
    (one,) = slices.wanted(service(), [pod(deletionTimestamp="2026-01-01T00:00:00Z")])["endpoints"]
    assert one["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_a_pod_that_is_not_ready_is_listed_as_such() -> None:
    (one,) = slices.wanted(service(), [pod(ready=False)])["endpoints"]
    assert one["conditions"]["ready"] is False
    (one,) = slices.wanted(service(publishNotReadyAddresses=True), [pod(ready=False)])["endpoints"]
    assert one["conditions"]["ready"] is True


def test_pods_without_address_or_at_their_end_are_left_out() -> None:
    unborn, over = pod("a"), pod("b")
    del unborn["status"]["podIP"]
    over["status"]["phase"] = "Failed"
    assert slices.wanted(service(), [unborn, over])["endpoints"] == []


def test_only_matching_pods_of_the_namespace_are_taken() -> None:
    assert slices.wanted(service(), [pod(namespace="other"), pod(labels={"app": "x"})])["endpoints"] == []
    assert not slices.selects(service(selector=None), pod())


def test_a_named_port_that_no_pod_has_is_left_out() -> None:
    assert slices.wanted(service(), [])["ports"] == []
    assert slices.wanted(service(ports=[{"port": 53, "protocol": "UDP"}]), [])["ports"] == [
        {"name": "", "protocol": "UDP", "port": 53}
    ]
