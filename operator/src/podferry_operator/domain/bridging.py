"""Bridging EndpointSlices: from Commit on the target is ready for its Services, before its readiness probe says so.

A Service that selects the pod gets one more slice, labelled as ours, that names the target as ready. It goes as soon as
the ordinary slice does. A Service for which no EndpointSlice controller works is left alone. Each bridging slice is
owned by the target pod, so that none can outlive it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from podferry_operator.domain import actions, observation, pods
from podferry_operator.domain.target_pod import MIGRATED_BY_LABEL, SUFFIX_DIGITS

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
ORDINARY_MANAGER = "endpointslice-controller.k8s.io"
BRIDGE_MANAGER = "operator.podferry.dev"
_NAME_STEM_LIMIT = 40


def changes(network: observation.Network, target: observation.Object, migration_id: str) -> Iterator[actions.Action]:
    """Yield what makes the bridging slices right for a committed migration; nothing when they are.

    Invariant: whenever an ordinary slice of a selecting Service exists and does not have the target ready, a bridging
    slice does, and never otherwise.
    """
    wanted = {
        body["metadata"]["name"]: body
        for service in network.services
        if selects(service, target) and _waits(network, service, target)
        for body in _build(service, target, migration_id)
    }
    present = {item["metadata"]["name"] for item in standing(network, migration_id)}
    yield from (actions.CreateSlice(body) for name, body in wanted.items() if name not in present)
    yield from (actions.DeleteSlice(name) for name in sorted(present - wanted.keys()))


def standing(network: observation.Network, migration_id: str) -> list[observation.Object]:
    """Return the bridging slices of this migration that exist."""
    return [
        item
        for item in network.slices
        if _label(item, MANAGER_LABEL) == BRIDGE_MANAGER and _label(item, MIGRATED_BY_LABEL) == migration_id
    ]


def selects(service: observation.Object, pod: observation.Object) -> bool:
    """Tell whether a Service's selector matches the pod; one without a selector matches none."""
    selector = service["spec"].get("selector") or {}
    labels = pod["metadata"].get("labels", {})
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _waits(network: observation.Network, service: observation.Object, target: observation.Object) -> bool:
    ordinary = [
        item
        for item in network.slices
        if _label(item, SERVICE_LABEL) == service["metadata"]["name"]
        and _label(item, MANAGER_LABEL) == ORDINARY_MANAGER
    ]
    return bool(ordinary) and not any(
        endpoint.get("targetRef", {}).get("uid") == pods.uid(target)
        and endpoint.get("conditions", {}).get("ready") is not False
        for item in ordinary
        for endpoint in item.get("endpoints") or ()
    )


def _build(service: observation.Object, target: observation.Object, migration_id: str) -> Iterator[dict[str, Any]]:
    metadata, name = target["metadata"], service["metadata"]["name"]
    families = service["spec"].get("ipFamilies") or ("IPv4", "IPv6")
    for family in families:
        addresses = [ip for ip in pods.addresses(target) if f"IPv{ipaddress.ip_address(ip).version}" == family]
        if not addresses:
            continue
        reference = {"kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        stem = name[:_NAME_STEM_LIMIT].rstrip("-.")
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{stem}-podferry-{family.lower()}-{migration_id[:SUFFIX_DIGITS]}",
                "namespace": metadata["namespace"],
                "labels": {SERVICE_LABEL: name, MANAGER_LABEL: BRIDGE_MANAGER, MIGRATED_BY_LABEL: migration_id},
                "ownerReferences": [{"apiVersion": "v1", **reference}],
            },
            "addressType": family,
            "endpoints": [
                {
                    "addresses": addresses[:1],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "nodeName": target["spec"]["nodeName"],
                    "targetRef": {**reference, "namespace": metadata["namespace"]},
                }
            ],
            "ports": list(_ports(service, target)),
        }


def _ports(service: observation.Object, target: observation.Object) -> Iterator[dict[str, Any]]:
    for port in service["spec"].get("ports", ()):
        protocol = port.get("protocol", "TCP")
        number = port.get("targetPort", port["port"])
        if isinstance(number, str):
            number = _named(target, number, protocol)
        if number is not None:
            extra = {"appProtocol": port["appProtocol"]} if "appProtocol" in port else {}
            yield {"name": port.get("name", ""), "protocol": protocol, "port": number, **extra}


def _named(target: observation.Object, name: str, protocol: str) -> int | None:
    for container in target["spec"]["containers"]:
        for port in container.get("ports", ()):
            if port.get("name") == name and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _label(item: observation.Object, key: str) -> str:
    return str(item["metadata"].get("labels", {}).get(key, ""))
