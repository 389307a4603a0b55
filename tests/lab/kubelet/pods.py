"""Reading a Pod object: what its fields mean when they are absent, and what identifies it. Pure."""

from __future__ import annotations

from typing import Any

from tests.lab.kubelet import quantities

Json = dict[str, Any]

DEFAULT_GRACE = 30
MINIMUM_GRACE = 2
"""Containers get at least this many seconds to end, whatever the pod asks for."""


def version(pod: Json) -> int:
    """Return the resourceVersion as a number, which orders the versions of one object; 0 when it has none."""
    return int(pod["metadata"].get("resourceVersion") or 0)


def uid(pod: Json) -> str:
    """Return the pod's uid."""
    return str(pod["metadata"]["uid"])


def name(pod: Json) -> str:
    """Return the pod's name."""
    return str(pod["metadata"]["name"])


def namespace(pod: Json) -> str:
    """Return the pod's namespace."""
    return str(pod["metadata"]["namespace"])


def path(pod: Json) -> str:
    """Return where the API serves the pod."""
    return f"/api/v1/namespaces/{namespace(pod)}/pods/{name(pod)}"


def full_name(pod: Json) -> str:
    """Return what names the pod in file names: namespace, name and uid."""
    return f"{namespace(pod)}_{name(pod)}_{uid(pod)}"


def containers(pod: Json) -> list[Json]:
    """Return the specs of the pod's containers, in the order in which they start."""
    return list(pod["spec"].get("containers") or [])


def restart_policy(pod: Json) -> str:
    """Return Always, OnFailure or Never."""
    return str(pod["spec"].get("restartPolicy") or "Always")


def host_network(pod: Json) -> bool:
    """Say whether the pod lives in the node's network namespace."""
    return bool(pod["spec"].get("hostNetwork"))


def deleted(pod: Json) -> bool:
    """Say whether someone asked for the pod's end."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def grace(pod: Json) -> int:
    """Return the seconds between asking the containers to end and killing them."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if asked is None:
        asked = pod["spec"].get("terminationGracePeriodSeconds")
    return max(MINIMUM_GRACE, DEFAULT_GRACE if asked is None else int(asked))


def finished(pod: Json) -> bool:
    """Say whether the pod has run to its end; that is never taken back."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def qos_class(pod: Json) -> str:
    """Return Guaranteed, Burstable or BestEffort, from the containers' requests and limits of cpu and memory."""
    some = False
    guaranteed = True
    for one in containers(pod):
        given = one.get("resources") or {}
        limits = _positive(given.get("limits"))
        requests = {**limits, **_positive(given.get("requests"))}
        some = some or bool(requests)
        guaranteed = guaranteed and set(limits) == {"cpu", "memory"} and requests == limits
    if not some:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def cgroup(pod: Json) -> str:
    """Return the pod's cgroup below the cgroup root, as the cgroupfs driver names it."""
    tier = {"Guaranteed": "", "Burstable": "/burstable", "BestEffort": "/besteffort"}[qos_class(pod)]
    return f"/kubepods{tier}/pod{uid(pod)}"


def unsupported(pod: Json) -> str:
    """Return what the pod asks for that this kubelet would silently do differently, or an empty string."""
    spec = pod["spec"]
    if spec.get("initContainers"):
        return "spec.initContainers"
    for one in containers(pod):
        where = f"container {one['name']}: "
        for field in ("envFrom", "lifecycle", "volumeDevices"):
            if one.get(field):
                return where + field
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            if "grpc" in (one.get(probe) or {}):
                return where + f"{probe}.grpc"
    return ""


def _positive(resources: Json | None) -> dict[str, Any]:
    amounts = {kind: quantities.parse((resources or {}).get(kind)) for kind in ("cpu", "memory")}
    return {kind: amount for kind, amount in amounts.items() if amount > 0}
