"""From the point of no return on: every path finishes.

The agents resume by themselves. What is left is Kubernetes' side: endpoints, the source pod, the record.
"""

from __future__ import annotations

from podferry import errors, steps
from podferry.wire import agent_pb2
from podferry_operator.api import times
from podferry_operator.api.conditions import Condition, Status, Type
from podferry_operator.api.migration import Migration
from podferry_operator.api.reasons import Reason
from podferry_operator.domain import actions, bridging, manual_endpoints, observation, pods, timeline
from podferry_operator.domain.observation import Role
from podferry_operator.domain.undo import POLL

BRIDGE_PATIENCE = 60.0
"""Seconds after the target pod became Ready for which its ordinary slice is awaited: a controller takes about one."""

FORGET_PATIENCE = 60.0
"""Seconds after the end for which an agent that does not answer is asked to forget; it clears up by itself later."""


def reached(seen: observation.Observation) -> bool:
    """Tell whether the migration is past the point of no return, by the record or by what either agent says."""
    return seen.migration.committed or any(view is not None and view.committed for view in (seen.source, seen.target))


def plan(seen: observation.Observation) -> actions.Plan:
    """Return what is left to do for a committed migration.

    Invariants: the source pod is deleted only after the traffic is on the target; nothing here ever touches the target
    pod; an obstacle is waited out, never a reason to turn back.
    """
    committed = Condition(Type.COMMITTED, Status.TRUE, Reason.COMMITTED, "the target has taken over")
    for view in (seen.source, seen.target):
        if view is not None and view.report is not None and view.outcome == agent_pb2.INCONSISTENT:
            message = view.report.message or "an agent could not finish"
            return _end(_step(seen), committed, Status.FALSE, view.report.reason or Reason.INCONSISTENT, message)
    orders = _endpoints(seen) + _source_pod(seen)
    source_gone = pods.uid(seen.source_pod) != seen.migration.source.pod_uid
    if source_gone and seen.target_pod is None:
        message = f"pod {seen.migration.target.pod_name} took over and was deleted since"
        return _end(steps.Step.CLEANUP, committed, Status.FALSE, Reason.TARGET_POD_GONE, message)
    if source_gone and not orders and _landed(seen):
        return _end(steps.Step.DONE, committed, Status.TRUE, Reason.MOVED, _moved(seen))
    left = "the source pod to go" if not source_gone else "the target pod and its endpoints to be ready"
    trouble = f": {seen.failure}" if seen.failure is not None else ""
    going = Condition(Type.SUCCEEDED, Status.UNKNOWN, Reason.MIGRATING, f"waiting for {left}{trouble}")
    return actions.Plan(_step(seen), [committed, going], orders, POLL)


def after(seen: observation.Observation) -> actions.Plan:
    """Return what follows once Succeeded is final: the agents forget, the object is let go, and in time deleted."""
    migration = seen.migration
    ended = migration.completed_at if migration.completed_at is not None else seen.now
    if migration.held:
        told = Type.TARGET_READY not in migration.conditions or seen.now > ended + FORGET_PATIENCE
        evidence = migration.conditions[Type.SUCCEEDED].reason == Reason.INCONSISTENT
        forget = [] if told or evidence else [actions.Forget(Role.SOURCE), actions.Forget(Role.TARGET)]
        return actions.Plan(migration.step, actions=[*forget, actions.RemoveFinalizer()], wait=POLL)
    time_to_live = _time_to_live(migration)
    if migration.deleting or time_to_live is None:
        return actions.Plan(migration.step, wait=None)
    left = ended + time_to_live - seen.now
    if left > 0:
        return actions.Plan(migration.step, wait=left)
    return actions.Plan(migration.step, actions=[actions.DeleteMigration()], wait=None)


def _time_to_live(migration: Migration) -> float | None:
    try:
        return migration.ttl_seconds
    except errors.InvalidInput:  # the reason why it was refused; it stays until somebody has read it
        return None


def _step(seen: observation.Observation) -> steps.Step:
    if _resumed(seen):
        return steps.Step.CLEANUP
    step = timeline.later(steps.Step.COMMIT, seen.migration.step)
    for view in (seen.source, seen.target):
        if view is not None and view.report is not None:
            step = timeline.later(step, view.report.step)
    return step


def _resumed(seen: observation.Observation) -> bool:
    """Tell whether the traffic is on the target: an agent says so, or both have forgotten and the pod is Ready."""
    views = (seen.source, seen.target)
    if any(view is not None and view.outcome == agent_pb2.SUCCEEDED for view in views):
        return True
    forgotten = all(view is not None and (view.unknown or view.node_gone) for view in views)
    return forgotten and seen.target_pod is not None and pods.ready(seen.target_pod)


def _endpoints(seen: observation.Observation) -> list[actions.Action]:
    target, uid = seen.target_pod, seen.migration.uid
    manual = [] if target is None else [*manual_endpoints.changes(seen.network, seen.migration.source, target)]
    if target is None or _bridge_over(seen):
        names = [item["metadata"]["name"] for item in bridging.standing(seen.network, uid)]
        return [*manual, *(actions.DeleteSlice(name) for name in names)]
    return [*manual, *bridging.changes(seen.network, target, uid)]


def _source_pod(seen: observation.Observation) -> list[actions.Action]:
    pod = seen.source_pod
    if pod is None or pods.uid(pod) != seen.migration.source.pod_uid or pods.terminating(pod) or not _resumed(seen):
        return []
    return [actions.DeletePod(pod["metadata"]["name"], pods.uid(pod))]


def _landed(seen: observation.Observation) -> bool:
    ready = seen.target_pod is not None and pods.ready(seen.target_pod)
    return (ready or _overdue(seen)) and not bridging.standing(seen.network, seen.migration.uid)


def _overdue(seen: observation.Observation) -> bool:
    """Tell whether the target pod had spec.deadline since Commit to become Ready; the rest is its owner's."""
    committed = seen.migration.since(Type.COMMITTED)
    return committed is not None and seen.now > committed + seen.migration.deadline_seconds


def _bridge_over(seen: observation.Observation) -> bool:
    """Tell whether the bridging slices have to go whatever the ordinary ones say."""
    if seen.target_pod is None or not pods.ready(seen.target_pod):
        return _overdue(seen)
    since = pods.condition(seen.target_pod, "Ready").get("lastTransitionTime")
    return since is not None and seen.now > times.parse(since) + BRIDGE_PATIENCE


def _moved(seen: observation.Observation) -> str:
    target = seen.target_pod
    if target is None or not pods.ready(target):
        return "the pod runs on the target node, but is not Ready"
    return f"pod {target['metadata']['name']} runs on node {seen.migration.spec.target_node}"


def _end(step: steps.Step, committed: Condition, status: Status, reason: str, message: str) -> actions.Plan:
    return actions.Plan(step, [committed, Condition(Type.SUCCEEDED, status, reason, message)])
