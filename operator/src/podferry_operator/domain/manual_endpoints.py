"""Services without a selector: nobody but us knows that the pod behind their hand-made endpoints has moved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from podferry_operator.api.migration import PodPlace
from podferry_operator.domain import actions, bridging, observation, pods

_OTHER_MANAGERS = {
    bridging.ORDINARY_MANAGER,
    "endpointslicemirroring-controller.k8s.io",
    bridging.BRIDGE_MANAGER,
}


def changes(
    network: observation.Network, source: PodPlace, target: observation.Object
) -> Iterator[actions.ReplaceSlice | actions.ReplaceEndpoints]:
    """Yield every hand-made EndpointSlice and Endpoints object that still names the source, rewritten to the target.

    An entry names the source by targetRef, or by address and nodeName together. What the entry did not have, it does
    not get. Objects that a controller maintains are left to it.
    """
    manual = {
        service["metadata"]["name"]
        for service in network.services
        if not service["spec"].get("selector") and service["spec"].get("type") != "ExternalName"
    }
    for item in network.slices:
        labels = item["metadata"].get("labels", {})
        by_hand = labels.get(bridging.MANAGER_LABEL) not in _OTHER_MANAGERS
        if by_hand and labels.get(bridging.SERVICE_LABEL) in manual:
            body = copy.deepcopy(dict(item))
            if _rewrite(_rewrite_endpoint, body.get("endpoints") or (), source, target):
                yield actions.ReplaceSlice(body)
    for item in network.endpoints:
        if item["metadata"]["name"] in manual:
            body = copy.deepcopy(dict(item))
            entries = [
                entry
                for subset in body.get("subsets") or ()
                for entry in (*subset.get("addresses", ()), *subset.get("notReadyAddresses", ()))
            ]
            if _rewrite(_rewrite_address, entries, source, target):
                yield actions.ReplaceEndpoints(body)


def _rewrite(
    rewrite: Callable[[dict[str, Any], PodPlace, observation.Object], bool],
    entries: Iterable[dict[str, Any]],
    source: PodPlace,
    target: observation.Object,
) -> bool:
    changed = [rewrite(entry, source, target) for entry in entries]  # all of them, not up to the first
    return any(changed)


def _rewrite_endpoint(entry: dict[str, Any], source: PodPlace, target: observation.Object) -> bool:
    if not _names(entry, entry.get("addresses", ()), source):
        return False
    entry["addresses"] = [_moved(ip, source, target) for ip in entry["addresses"]]
    _refer(entry, target)
    return True


def _rewrite_address(entry: dict[str, Any], source: PodPlace, target: observation.Object) -> bool:
    if not _names(entry, (entry["ip"],), source):
        return False
    entry["ip"] = _moved(entry["ip"], source, target)
    _refer(entry, target)
    return True


def _names(entry: dict[str, Any], addresses: tuple[str, ...] | list[str], source: PodPlace) -> bool:
    reference = entry.get("targetRef") or {}
    if reference.get("uid"):
        return bool(reference["uid"] == source.pod_uid)
    if reference.get("kind") == "Pod" and reference.get("name") == source.pod_name:
        return True
    return source.address in addresses and entry.get("nodeName") == source.node


def _moved(ip: str, source: PodPlace, target: observation.Object) -> str:
    addresses = pods.addresses(target)
    return addresses[0] if ip == source.address and addresses else ip


def _refer(entry: dict[str, Any], target: observation.Object) -> None:
    metadata = target["metadata"]
    if "targetRef" in entry:
        kept = {key: value for key, value in entry["targetRef"].items() if key not in {"resourceVersion", "uid"}}
        uid = {"uid": metadata["uid"]} if "uid" in entry["targetRef"] else {}
        entry["targetRef"] = {**kept, "name": metadata["name"], **uid}
    if "nodeName" in entry:
        entry["nodeName"] = target["spec"]["nodeName"]
