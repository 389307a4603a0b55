"""The target pod: the source pod's spec without what the API server and the cluster's add-ons put into it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from podferry import ids
from podferry_operator.domain import observation, pods

MIGRATED_BY_LABEL = "podferry.dev/migrated-by"
"""On the target pod and on bridging slices: the id of the migration that made them. Not an owner reference, since the
moved pod outlives the migration."""

SUFFIX_DIGITS = 5

ADDRESS_ANNOTATIONS: dict[str, Callable[[Sequence[str]], str]] = {
    "cni.projectcalico.org/ipAddrs": lambda addresses: json.dumps(list(addresses)),
}
"""CNI annotation → its value: how each CNI is asked for a certain address. All are set, each CNI reads its own."""

_NOT_COPIED_ANNOTATIONS = re.compile(
    r"podferry\.dev/.*"
    r"|kubectl\.kubernetes\.io/last-applied-configuration"
    r"|cni\.projectcalico\.org/.*"
    r"|k8s\.v1\.cni\.cncf\.io/network-?status"
    r"|kubernetes\.io/(config|limit-ranger).*"
)
_INJECTED_VOLUME = re.compile(r"kube-api-access-[a-z0-9]{5}")
_INJECTED_FIELDS = ("ephemeralContainers", "overhead", "preemptionPolicy", "priority", "serviceAccount")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME_LIMIT = 253
_LABEL_LIMIT = 63


def name(source: observation.Object, migration_id: str) -> str:
    """Return the target pod's name: the first ancestor's name and five digits of the migration's id.

    A pod that was moved before loses the suffix of that move, so that names do not grow along a chain of moves.
    """
    base: str = source["metadata"]["name"]
    earlier = source["metadata"].get("labels", {}).get(MIGRATED_BY_LABEL, "")
    if earlier and base.endswith("-" + earlier[:SUFFIX_DIGITS]):
        base = base[: -SUFFIX_DIGITS - 1]
    base = base[: _NAME_LIMIT - SUFFIX_DIGITS - 1].rstrip("-.")
    return f"{base}-{migration_id[:SUFFIX_DIGITS]}"


def ours(pod: observation.Object, migration_id: str) -> bool:
    """Tell whether this migration made `pod`."""
    return bool(pod["metadata"].get("labels", {}).get(MIGRATED_BY_LABEL) == migration_id)


def build(source: observation.Object, migration_id: str, node: str) -> dict[str, Any]:
    """Return the target pod for `source` on `node`.

    Labels stay, so that Services select it. Init containers are left out: they have run, and what they left behind
    travels with the pod. The host name that the processes know stays explicitly. There is no owner: a controlled pod
    is refused at acceptance.
    """
    metadata = source["metadata"]
    annotations = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if not _NOT_COPIED_ANNOTATIONS.fullmatch(key)
    }
    annotations |= {ids.MIGRATION_ANNOTATION: migration_id, ids.HOLD_ANNOTATION: "true"}
    addresses = pods.addresses(source)
    annotations |= {key: value(addresses) for key, value in ADDRESS_ANNOTATIONS.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(source, migration_id),
            "namespace": metadata["namespace"],
            "labels": {**metadata.get("labels", {}), MIGRATED_BY_LABEL: migration_id},
            "annotations": annotations,
        },
        "spec": _spec(source, node),
    }


def _spec(source: observation.Object, node: str) -> dict[str, Any]:
    spec: dict[str, Any] = copy.deepcopy(dict(source["spec"]))
    for field in (*_INJECTED_FIELDS, "initContainers"):
        spec.pop(field, None)
    injected = {volume["name"] for volume in spec.get("volumes", ()) if _INJECTED_VOLUME.fullmatch(volume["name"])}
    if injected:
        spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] not in injected]
        for container in spec["containers"]:
            mounts = container.get("volumeMounts", ())
            container["volumeMounts"] = [mount for mount in mounts if mount["name"] not in injected]
    spec |= {"nodeName": node, "runtimeClassName": ids.RUNTIME_CLASS}
    hostname = spec.get("hostname") or source["metadata"]["name"][:_LABEL_LIMIT].rstrip("-.")
    if _DNS_LABEL.fullmatch(hostname):  # the API refuses dots here, though a pod's name may have them
        spec["hostname"] = hostname
    return spec
