"""Whether an order makes sense: what the resource, the pod and the node say, before any agent is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from podferry import errors, ids
from podferry_operator.api.reasons import Reason
from podferry_operator.domain import observation, pods, volumes


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that stands against the migration."""

    reason: str
    message: str


def check(seen: observation.Observation) -> list[Finding]:
    """Return everything that stands against accepting the migration; each message begins with the field at fault."""
    return [*_spec(seen), *_pod(seen), *_node(seen), *_cluster(seen)]


def _spec(seen: observation.Observation) -> Iterator[Finding]:
    migration = seen.migration
    for field in ("freeze_budget_seconds", "deadline_seconds", "ttl_seconds"):
        try:
            getattr(migration, field)
        except errors.InvalidInput as error:
            yield Finding(Reason.INVALID_SPEC, error.message)


def _pod(seen: observation.Observation) -> Iterator[Finding]:
    pod, spec = seen.source_pod, seen.migration.spec
    subject = f"spec.podName: pod {seen.migration.namespace}/{spec.pod_name}"
    if pod is None:
        yield Finding(Reason.POD_NOT_FOUND, f"{subject} does not exist")
        return
    yield from _state(pod, subject)
    unsupported = (*_unsupported(pod), *volumes.unmovable(pod, seen.claims))
    yield from (Finding(Reason.POD_UNSUPPORTED, f"{subject} {what}") for what in unsupported)
    for rival in seen.rivals:
        if rival.source.pod_uid == pods.uid(pod):
            yield Finding(Reason.POD_MIGRATING, f"{subject} is being moved by ServiceMigration {rival.name}")
        elif rival.target.pod_uid == pods.uid(pod):
            yield Finding(Reason.POD_IS_TARGET, f"{subject} is the unfinished target of ServiceMigration {rival.name}")


def _state(pod: observation.Object, subject: str) -> Iterator[Finding]:
    if pods.terminating(pod):
        yield Finding(Reason.POD_TERMINATING, f"{subject} is being deleted")
    elif pods.phase(pod) != "Running":
        yield Finding(Reason.POD_NOT_RUNNING, f"{subject} is {pods.phase(pod)}, not Running")
    elif idle := pods.not_running(pod):
        yield Finding(Reason.POD_NOT_RUNNING, f"{subject}: not running: container {', '.join(idle)}")
    for owner in pod["metadata"].get("ownerReferences", ()):
        if owner.get("controller"):
            yield Finding(
                Reason.POD_HAS_CONTROLLER,
                f"{subject} belongs to {owner['kind']} {owner['name']}, which would replace it; only pods without a "
                "controller can move yet",
            )


def _unsupported(pod: observation.Object) -> Iterator[str]:
    spec = pod["spec"]
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"uses {field}: what it shares with its node cannot move"
    if spec.get("hostUsers") is False:
        yield "runs in a user namespace (hostUsers: false), which cannot move yet"
    if spec.get("shareProcessNamespace"):
        yield "uses shareProcessNamespace, which cannot move yet"
    if any(container.get("restartPolicy") == "Always" for container in spec.get("initContainers", ())):
        yield "has sidecar init containers, which cannot move yet"
    statuses = pod.get("status", {}).get("ephemeralContainerStatuses", ())
    if any("running" in status.get("state", {}) for status in statuses):
        yield "runs ephemeral containers, which cannot move"


def _node(seen: observation.Observation) -> Iterator[Finding]:
    node, name = seen.target_node, seen.migration.spec.target_node
    if node is None:
        yield Finding(Reason.NODE_NOT_FOUND, f"spec.targetNode: node {name} does not exist")
        return
    if seen.source_pod is not None and seen.source_pod["spec"].get("nodeName") == name:
        yield Finding(Reason.SAME_NODE, f"spec.targetNode: the pod already runs on node {name}")
    if not pods.ready(node):
        detail = pods.condition(node, "Ready").get("message", "it has not reported yet")
        yield Finding(Reason.NODE_NOT_READY, f"spec.targetNode: node {name} is not Ready: {detail}")
    elif node["spec"].get("unschedulable"):
        yield Finding(Reason.NODE_NOT_READY, f"spec.targetNode: node {name} is cordoned")


def _cluster(seen: observation.Observation) -> Iterator[Finding]:
    if seen.runtime_class is None:
        yield Finding(
            Reason.NO_RUNTIME_CLASS,
            f"RuntimeClass {ids.RUNTIME_CLASS} does not exist; install podferry's chart, or apply its RuntimeClass",
        )
