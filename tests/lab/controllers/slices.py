"""The EndpointSlice that a Service should have, from the Service and the pods. Pure.

One slice per service: the lab has fewer than a hundred endpoints, IPv4 only, and named ports mean the same in all pods
of a service.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"


def selects(service: Json, pod: Json) -> bool:
    """Say whether the service's selector takes the pod; a service without selector takes none."""
    selector = service["spec"].get("selector") or {}
    labels = pod["metadata"].get("labels") or {}
    same_namespace = service["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return bool(selector) and same_namespace and selector.items() <= labels.items()


def owned_by(slice_: Json, service: Json) -> bool:
    """Say whether a slice is this controller's for this very service."""
    labels = slice_["metadata"].get("labels") or {}
    owners = slice_["metadata"].get("ownerReferences") or []
    return labels.get(MANAGED_BY) == MANAGER and any(one["uid"] == service["metadata"]["uid"] for one in owners)


def wanted(service: Json, pods: Iterable[Json]) -> Json:
    """Return the slice of a service, without a name, from all pods of its namespace."""
    meta = service["metadata"]
    mine = sorted((pod for pod in pods if selects(service, pod)), key=lambda pod: str(pod["metadata"]["name"]))
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": meta["namespace"],
            "labels": {**(meta.get("labels") or {}), SERVICE_NAME: meta["name"], MANAGED_BY: MANAGER},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": "IPv4",
        "endpoints": [_endpoint(service, pod) for pod in mine if _reachable(pod)],
        "ports": [found for port in service["spec"].get("ports") or [] if (found := _port(port, mine))["port"]],
    }


def same(one: Json, other: Json) -> bool:
    """Say whether two slices say the same to whoever reads them."""
    return all((one.get(name) or []) == (other.get(name) or []) for name in ("endpoints", "ports")) and (
        one["metadata"].get("labels") == other["metadata"].get("labels")
    )


def _reachable(pod: Json) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") not in {"Succeeded", "Failed"}


def _endpoint(service: Json, pod: Json) -> Json:
    meta = pod["metadata"]
    serving = any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions") or [])
    terminating = "deletionTimestamp" in meta
    always = bool(service["spec"].get("publishNotReadyAddresses"))
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": always or (serving and not terminating),
            "serving": always or serving,
            "terminating": terminating,
        },
        "nodeName": pod["spec"].get("nodeName", ""),
        "targetRef": {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
    }


def _port(port: Json, pods: Iterable[Json]) -> Json:
    target = port.get("targetPort") or port["port"]
    number = target if isinstance(target, int) else _named(target, pods)
    return {"name": port.get("name") or "", "protocol": port.get("protocol") or "TCP", "port": number}


def _named(name: str, pods: Iterable[Json]) -> int | None:
    for pod in pods:
        for container in pod["spec"].get("containers") or []:
            for port in container.get("ports") or []:
                if port.get("name") == name:
                    return int(port["containerPort"])
    return None
