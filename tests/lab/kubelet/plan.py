"""What has to be done for a pod, from its spec and what the runtime has of it. Pure.

Invariants: a plan that creates a sandbox first stops whatever is left of the one before; a container is started only
when its newest attempt does not run; `start` keeps the order of the spec. Back-off is not decided here, since it is a
matter of time: whoever carries the plan out asks for it container by container.
"""

from __future__ import annotations

from collections.abc import Container as Collection
from dataclasses import dataclass

from tests.lab.kubelet import pods
from tests.lab.kubelet.observation import Container, Observed


@dataclass(frozen=True)
class Plan:
    """What to do, in the order of the fields."""

    stop: bool = False
    """Stop every container and sandbox of the pod."""

    create_sandbox: bool = False
    attempt: int = 0
    """Of the sandbox to create."""

    kill: tuple[Container, ...] = ()
    """Containers that run but must not go on; each is also in `start` when it is to come back."""

    start: tuple[str, ...] = ()
    """Containers to create and start, one after the other."""


def plan(pod: pods.Json, seen: Observed, unhealthy: Collection[str]) -> Plan:
    """Return what the pod needs now.

    Args:
        pod: not deleted and not finished.
        seen: what the runtime has.
        unhealthy: ids of containers whose liveness or startup probe has failed for good.
    """
    if _sandbox_lost(pod, seen):
        return _anew(pod, seen)
    kill = tuple(one for one in seen.running if one.id in unhealthy or one.state == "unknown")
    start = tuple(spec["name"] for spec in pods.containers(pod) if _wanted(pod, seen.newest(spec["name"]), unhealthy))
    kept = [spec for spec in pods.containers(pod) if (now := seen.newest(spec["name"])) and now.running]
    if not start and len(kept) == len(kill):
        return Plan(stop=True)
    return Plan(kill=kill, start=start)


def restarts(pod: pods.Json, now: Container | None) -> bool:
    """Say whether a container whose newest attempt is `now` is to be started (again)."""
    if now is None or now.state in {"created", "unknown"}:
        return True
    if now.running:
        return False
    match pods.restart_policy(pod):
        case "Never":
            return False
        case "OnFailure":
            return now.exit_code != 0
    return True


def _wanted(pod: pods.Json, now: Container | None, unhealthy: Collection[str]) -> bool:
    if now is not None and now.running and now.id in unhealthy:
        return pods.restart_policy(pod) != "Never"
    return restarts(pod, now)


def _sandbox_lost(pod: pods.Json, seen: Observed) -> bool:
    ready = [one for one in seen.sandboxes if one.ready]
    if len(ready) != 1 or not seen.sandboxes[0].ready:
        return True
    return not pods.host_network(pod) and not seen.ips


def _anew(pod: pods.Json, seen: Observed) -> Plan:
    """A pod whose sandbox is gone starts over, unless it has already done what it was for."""
    attempt = seen.sandbox.attempt + 1 if seen.sandbox else 0
    if pods.restart_policy(pod) == "Never" and attempt and seen.containers:
        return Plan(stop=True)
    done = pods.restart_policy(pod) == "OnFailure"
    start = tuple(
        spec["name"]
        for spec in pods.containers(pod)
        if not (done and (now := seen.newest(spec["name"])) and now.exited and now.exit_code == 0)
    )
    return Plan(stop=True, create_sandbox=bool(start), attempt=attempt, start=start)
