"""The pod's status, from its spec, what the runtime has and what the probes say. Pure.

The phase follows the kubelet's counting: Pending while a container waits that never ran, Running while one runs or will
run again, Succeeded or Failed when all have ended for good. A phase that says finished is never taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.lab.kubelet import pods, times
from tests.lab.kubelet.observation import Container, Observed
from tests.lab.kubelet.plan import restarts

OWNED = ("phase", "conditions", "containerStatuses", "hostIP", "hostIPs", "podIP", "podIPs", "startTime", "qosClass")
"""The members of status that are this kubelet's to write, together with `reason` and `message`."""


@dataclass(frozen=True)
class Inputs:
    """What the status depends on beside the pod and the runtime."""

    now: int
    """Nanoseconds since the epoch."""

    host_ip: str
    ready: Mapping[str, bool] = field(default_factory=dict)
    """Container id → what its readiness probe says; absent: it has none."""

    started: Mapping[str, bool] = field(default_factory=dict)
    """Container id → what its startup probe says; absent: it has none."""

    trouble: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Container name → (reason, message) of the last failure to start it."""

    ended: bool = False
    """Nothing of the pod will run again: it was deleted or is finished."""


def of_pod(pod: pods.Json, seen: Observed, given: Inputs) -> pods.Json:
    """Return the owned members of status as they should be."""
    before = pod.get("status") or {}
    states = [_container_status(pod, spec, seen, given, before) for spec in pods.containers(pod)]
    phase = before["phase"] if pods.finished(pod) else _phase(pod, states, ended=given.ended)
    ips = _ips(pod, seen, given, before)
    found: dict[str, Any] = {
        "phase": phase,
        "conditions": _conditions(pod, seen, given, phase, states),
        "containerStatuses": states,
        "hostIP": given.host_ip,
        "hostIPs": [{"ip": given.host_ip}],
        "startTime": before.get("startTime") or times.text(given.now),
        "qosClass": pods.qos_class(pod),
    }
    if ips:
        found |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    return found


def refused(pod: pods.Json, field_: str, now: int) -> pods.Json:
    """Return the status of a pod that this kubelet will not run."""
    return {
        "phase": "Failed",
        "reason": "Unsupported",
        "message": f"the lab's kubelet does not know {field_}",
        "startTime": (pod.get("status") or {}).get("startTime") or times.text(now),
        "qosClass": pods.qos_class(pod),
    }


def difference(pod: pods.Json, wanted: pods.Json) -> pods.Json:
    """Return the merge patch that makes the pod's status what is wanted; empty when it is already."""
    before = pod.get("status") or {}
    members = [*OWNED, *(name for name in ("reason", "message") if name in wanted)]
    return {name: wanted.get(name) for name in members if name in wanted and before.get(name) != wanted[name]}


def _ips(pod: pods.Json, seen: Observed, given: Inputs, before: pods.Json) -> list[str]:
    if pods.host_network(pod):
        return [given.host_ip]
    return list(seen.ips) or [one["ip"] for one in before.get("podIPs") or []]


def _phase(pod: pods.Json, states: list[pods.Json], *, ended: bool) -> str:
    def stopped(one: pods.Json) -> pods.Json | None:
        found: pods.Json | None = one["state"].get("terminated") or one.get("lastState", {}).get("terminated")
        return found

    running = [one for one in states if "running" in one["state"]]
    over = [end for one in states if "running" not in one["state"] and (end := stopped(one))]
    if len(running) + len(over) < len(states):
        return "Failed" if ended else "Pending"
    if running:
        return "Running"
    if pods.restart_policy(pod) == "Always" and not ended:
        return "Running"
    if all(end["exitCode"] == 0 for end in over):
        return "Succeeded"
    return "Failed" if ended or pods.restart_policy(pod) == "Never" else "Running"


def _container_status(pod: pods.Json, spec: pods.Json, seen: Observed, given: Inputs, before: pods.Json) -> pods.Json:
    attempts = seen.attempts(spec["name"])
    if not attempts and given.ended:
        # The runtime has forgotten what has ended; what was said of it last stays.
        last = [one for one in before.get("containerStatuses") or [] if one["name"] == spec["name"]]
        if last and "running" not in last[0]["state"]:
            return {**last[0], "ready": False, "started": False}
    now = attempts[0] if attempts else None
    runs = now is not None and now.running
    started = runs and now is not None and given.started.get(now.id, True)
    state, last_state = _states(pod, spec["name"], attempts, given, seen.runtime)
    found: pods.Json = {
        "name": spec["name"],
        "image": (now and now.image) or spec["image"],
        "imageID": (now and now.image_id) or "",
        "restartCount": now.attempt if now else 0,
        "ready": bool(started and now and given.ready.get(now.id, True) and not (given.ended and not runs)),
        "started": bool(started),
        "state": state,
        "lastState": last_state,
    }
    if now:
        found["containerID"] = f"{seen.runtime}://{now.id}"
    return found


def _states(
    pod: pods.Json, name: str, attempts: list[Container], given: Inputs, runtime: str
) -> tuple[pods.Json, pods.Json]:
    now = attempts[0] if attempts else None
    before = next((one for one in attempts[1:] if one.exited), None)
    last = {"terminated": _terminated(before, runtime)} if before else {}
    if now is not None and now.running:
        return {"running": {"startedAt": times.text(now.started_at)}}, last
    if now is not None and now.exited:
        over = {"terminated": _terminated(now, runtime)}
        if given.ended or name not in given.trouble or not restarts(pod, now):
            return over, last
        last = over
    reason, message = given.trouble.get(name, ("ContainerCreating", ""))
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}, last


def _terminated(one: Container, runtime: str) -> pods.Json:
    found: pods.Json = {
        "exitCode": one.exit_code,
        "reason": one.reason or ("Completed" if one.exit_code == 0 else "Error"),
        "startedAt": times.text(one.started_at),
        "finishedAt": times.text(one.finished_at),
        "containerID": f"{runtime}://{one.id}",
    }
    if one.message:
        found["message"] = one.message
    return found


def _conditions(pod: pods.Json, seen: Observed, given: Inputs, phase: str, states: list[pods.Json]) -> list[pods.Json]:
    """Return our conditions first, then those that others wrote."""
    unready = [one["name"] for one in states if not one["ready"]]
    answer: tuple[str, str, str] = ("True", "", "")
    if phase in {"Succeeded", "Failed"}:
        answer = ("False", "PodCompleted" if phase == "Succeeded" else "PodFailed", "")
    elif unready:
        answer = ("False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    ours = {
        "PodReadyToStartContainers": ("True" if seen.sandbox and seen.sandbox.ready else "False", "", ""),
        "Initialized": ("True", "", ""),
        "Ready": _gated(pod, answer),
        "ContainersReady": answer,
        "PodScheduled": ("True", "", ""),
    }
    before = {one["type"]: one for one in (pod.get("status") or {}).get("conditions") or []}
    written = [_condition(kind, answer, before.get(kind), given.now) for kind, answer in ours.items()]
    return written + [one for kind, one in before.items() if kind not in ours]


def _gated(pod: pods.Json, answer: tuple[str, str, str]) -> tuple[str, str, str]:
    gates = [one["conditionType"] for one in pod["spec"].get("readinessGates") or []]
    open_ = {one["type"] for one in (pod.get("status") or {}).get("conditions") or [] if one["status"] == "True"}
    shut = [one for one in gates if one not in open_]
    if answer[0] == "True" and shut:
        return "False", "ReadinessGatesNotReady", f"conditions not true: {', '.join(shut)}"
    return answer


def _condition(kind: str, answer: tuple[str, str, str], before: pods.Json | None, now: int) -> pods.Json:
    value, reason, message = answer
    found: pods.Json = {"type": kind, "status": value}
    if reason:
        found["reason"] = reason
    if message:
        found["message"] = message
    kept = before.get("lastTransitionTime") if before and before["status"] == value else None
    found["lastTransitionTime"] = kept or times.text(now)
    return found
