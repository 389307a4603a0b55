"""A ServiceMigration from the outside: made and read with kubectl only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.support import kubectl

from podferry import steps

KIND = "servicemigrations.podferry.dev"


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of status.conditions; `status` is True, False or Unknown."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Timing:
    """When a step began (Unix seconds) and how long it took; None while it runs."""

    started: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Audited:
    """The fate of one connection as the agents saw it; addresses are "ip:port"."""

    local: str
    peer: str
    state: str
    fate: str
    bytes_queued: int
    answered_ms: float | None


@dataclass(frozen=True, slots=True)
class Migration:
    """The status of a ServiceMigration; what is not there yet is None, empty or 0."""

    name: str
    step: steps.Step | None
    conditions: Mapping[str, Condition]
    timings: Mapping[steps.Step, Timing]
    source_node: str
    target_node: str
    target_pod: str
    freeze_seconds: float | None
    total: int
    kept: int
    closed: int
    bytes_queued: int
    dead_ms: float | None
    audit: tuple[Audited, ...]
    image_bytes: int

    @property
    def succeeded(self) -> bool | None:
        """Whether it ended well; None while it runs."""
        condition = self.conditions.get("Succeeded")
        return {"True": True, "False": False}.get(condition.status) if condition else None

    @property
    def outcome(self) -> str:
        """The reason and message of the last word, for people."""
        condition = self.conditions.get("Succeeded")
        return f"{condition.reason}: {condition.message}" if condition else "not yet observed by the operator"


def parse(found: Mapping[str, Any]) -> Migration:
    """Read the object as kubectl prints it."""
    status = found.get("status", {})
    connections = status.get("connections", {})
    target = status.get("target", {})
    return Migration(
        name=found["metadata"]["name"],
        step=steps.Step(status["step"]) if status.get("step") else None,
        conditions={
            one["type"]: Condition(one["status"], one["reason"], one["message"]) for one in status.get("conditions", ())
        },
        timings={
            steps.Step(one["step"]): Timing(_unix(one["startedAt"]), one.get("seconds"))
            for one in status.get("timings", ())
        },
        source_node=status.get("source", {}).get("node", ""),
        target_node=target.get("node") or found["spec"]["targetNode"],
        target_pod=target.get("podName", ""),
        freeze_seconds=status.get("freezeSeconds"),
        total=connections.get("total", 0),
        kept=connections.get("kept", 0),
        closed=connections.get("closed", 0),
        bytes_queued=connections.get("bytesQueued", 0),
        dead_ms=connections.get("deadTimeMs"),
        audit=tuple(_audited(one) for one in connections.get("audit", ())),
        image_bytes=status.get("memory", {}).get("imageBytes", 0),
    )


def build(name: str, pod: str, node: str, **spec: Any) -> kubectl.Object:
    """Return the order to move `pod` to `node`; further fields of the spec as keywords."""
    return {
        "apiVersion": "podferry.dev/v1alpha1",
        "kind": "ServiceMigration",
        "metadata": {"name": name},
        "spec": {"podName": pod, "targetNode": node, **spec},
    }


def follow(
    cluster: kubectl.Kubectl, name: str, seconds: float, seen: Callable[[Migration], None] | None = None
) -> Migration:
    """Watch a migration until it has succeeded or failed, showing every version to `seen`; return the last.

    Raises:
        AssertionError: it did not end within `seconds`.
    """
    last: Migration | None = None
    for found in cluster.watch(KIND, name, time.monotonic() + seconds):
        last = parse(found)
        if seen is not None:
            seen(last)
        if last.succeeded is not None:
            return last
    step = last.step if last else "no step"
    raise AssertionError(
        f"{name} has not ended after {seconds:.0f} s; it is in {step}: {last.outcome if last else '-'}"
    )


def migrate(cluster: kubectl.Kubectl, pod: str, node: str, seconds: float = 120.0, **spec: Any) -> Migration:
    """Order a migration and follow it to its end, whatever that is; its name is `pod`-to-`node`."""
    name = f"{pod}-to-{node}"
    cluster.apply_object(build(name, pod, node, **spec))
    return follow(cluster, name, seconds)


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _audited(one: Mapping[str, Any]) -> Audited:
    return Audited(
        one.get("local", ""),
        one.get("peer", ""),
        one.get("state", ""),
        one.get("fate", ""),
        one.get("bytesQueued", 0),
        one.get("answeredMs"),
    )
