"""Questions about a pod object that several decisions ask."""

from __future__ import annotations

from collections.abc import Iterator

from podferry_operator.domain import observation


def uid(pod: observation.Object | None) -> str:
    """Return the pod's UID, empty without a pod."""
    return "" if pod is None else str(pod["metadata"]["uid"])


def containers(pod: observation.Object) -> list[str]:
    """Return the container names in the order of the spec."""
    return [container["name"] for container in pod["spec"]["containers"]]


def terminating(pod: observation.Object) -> bool:
    """Tell whether the pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def phase(pod: observation.Object) -> str:
    """Return status.phase."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def condition(holder: observation.Object, kind: str) -> observation.Object:
    """Return condition `kind` of a pod or a node, empty when it has none."""
    for item in holder.get("status", {}).get("conditions", ()):
        if item["type"] == kind:
            return dict(item)
    return {}


def ready(holder: observation.Object) -> bool:
    """Tell whether a pod or a node is Ready."""
    return condition(holder, "Ready").get("status") == "True"


def addresses(pod: observation.Object) -> list[str]:
    """Return the pod's IP addresses, the primary one first."""
    status = pod.get("status", {})
    listed = [item["ip"] for item in status.get("podIPs", ()) if item.get("ip")]
    return listed or [ip for ip in (status.get("podIP"),) if ip]


def not_running(pod: observation.Object) -> list[str]:
    """Return the names of the containers that do not run."""
    running = {
        item["name"] for item in pod.get("status", {}).get("containerStatuses", ()) if "running" in item["state"]
    }
    return [name for name in containers(pod) if name not in running]


def waiting(pod: observation.Object) -> Iterator[tuple[str, str]]:
    """Yield (reason, message) of every container that waits for more than its creation."""
    for item in pod.get("status", {}).get("containerStatuses", ()):
        state = item.get("state", {}).get("waiting", {})
        if state.get("reason", "ContainerCreating") not in {"ContainerCreating", "PodInitializing"}:
            yield state["reason"], f"container {item['name']}: {state.get('message', state['reason'])}"


def liveness_patience(pod: observation.Object) -> tuple[float, str] | None:
    """Return (seconds, container): how long the most impatient liveness probe may fail before the kubelet kills.

    The worst case counts: the freeze begins just before a probe, so only failureThreshold - 1 periods and one timeout
    are left.
    """
    found = []
    for container in pod["spec"]["containers"]:
        probe = container.get("livenessProbe")
        if probe:
            periods = max(int(probe.get("failureThreshold", 3)) - 1, 0)
            seconds = periods * int(probe.get("periodSeconds", 10)) + int(probe.get("timeoutSeconds", 1))
            found.append((float(seconds), str(container["name"])))
    return min(found, default=None)
