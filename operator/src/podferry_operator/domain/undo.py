"""Before the point of no return: why a migration has to be undone, and how.

The order never varies: the decision is published, the source undoes (it alone knows whether the commit is journalled),
the target's order is made void, the target pod goes, and only then is the migration called failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from podferry import errors, steps
from podferry.wire import agent_pb2
from podferry_operator.api.conditions import Condition, Status, Type
from podferry_operator.api.reasons import Reason
from podferry_operator.domain import actions, observation, pods, target_pod, timeline
from podferry_operator.domain.observation import Role
from podferry_operator.domain.validation import Finding

POLL = 0.5
"""Seconds between two looks while something outside has to happen and nothing tells us when."""

_IN_DOUBT = {steps.Step.CUT, steps.Step.COMMIT}


@dataclass(frozen=True, slots=True)
class _Source:
    """What is known about the source's share: settled, or what to do or wait for."""

    settled: bool
    action: actions.Action | None = None
    message: str = ""
    lost: str = ""


def why(seen: observation.Observation) -> Finding | None:
    """Return why an unfinished, uncommitted migration has to be undone, None when it may go on.

    A decision that was published before is kept, whatever is seen now: undoing goes on where a restart interrupted it.
    """
    migration = seen.migration
    decided = migration.conditions.get(Type.SUCCEEDED)
    if decided is not None and decided.reason != Reason.MIGRATING:
        return Finding(decided.reason, decided.message)
    if migration.deleting:
        return Finding(Reason.ABORTED, "the migration was deleted before it was committed")
    if seen.failure is not None and not isinstance(seen.failure, errors.Transient):
        return Finding(seen.failure.reason, seen.failure.message)
    return _agents(seen) or _deadline(seen) or _pods(seen)


def _agents(seen: observation.Observation) -> Finding | None:
    if seen.source is not None and seen.source.running:
        return None  # whatever befell the target, the source finds out and undoes by itself
    for view in (seen.source, seen.target):
        if view is not None and view.report is not None and not view.running:
            default = Reason.INCONSISTENT if view.outcome == agent_pb2.INCONSISTENT else "RolledBack"
            return Finding(view.report.reason or default, view.report.message or "the agent undid the migration")
    begun = steps.ORDER[seen.migration.step] >= steps.ORDER[steps.Step.FREEZE]
    if begun and seen.source is not None and seen.source.unknown:
        return Finding(Reason.SOURCE_LOST, "the source agent knows nothing of a migration that it had begun")
    return None


def _deadline(seen: observation.Observation) -> Finding | None:
    migration = seen.migration
    if not migration.accepted or migration.started_at is None:
        return None
    if seen.now <= migration.started_at + migration.deadline_seconds:
        return None
    ready = migration.conditions.get(Type.TARGET_READY)
    last = f": {ready.reason}: {ready.message}" if ready is not None and ready.status is not Status.TRUE else ""
    return Finding(
        Reason.DEADLINE_EXCEEDED, f"spec.deadline: {migration.spec.deadline} passed in step {migration.step}{last}"
    )


def _pods(seen: observation.Observation) -> Finding | None:
    migration, target = seen.migration, seen.target_pod
    if not migration.accepted or (seen.source is not None and seen.source.running):
        return None
    source = seen.source_pod
    if source is None or pods.uid(source) != migration.source.pod_uid:
        return Finding(Reason.SOURCE_POD_GONE, f"pod {migration.source.pod_name} is gone")
    if pods.terminating(source) or pods.phase(source) != "Running":
        return Finding(Reason.SOURCE_POD_GONE, f"pod {migration.source.pod_name} is ending")
    if target is None:
        if migration.target.pod_uid:
            return Finding(Reason.TARGET_POD_GONE, f"pod {migration.target.pod_name} was deleted")
    elif not target_pod.ours(target, migration.uid):
        name = target["metadata"]["name"]
        return Finding(Reason.TARGET_NAME_TAKEN, f"a pod named {name} exists and is none of this migration's")
    elif pods.terminating(target):
        return Finding(Reason.TARGET_POD_GONE, f"pod {target['metadata']['name']} is being deleted")
    elif pods.phase(target) in {"Failed", "Succeeded"}:
        status = target["status"]
        return Finding(
            Reason.TARGET_POD_FAILED,
            f"pod {target['metadata']['name']}: {status.get('reason', status['phase'])}: {status.get('message', '')}",
        )
    return None


def plan(seen: observation.Observation, finding: Finding) -> actions.Plan:
    """Return the next part of undoing.

    Invariants: the target pod is deleted only when the source cannot commit any more, and nothing here ever touches the
    source pod.
    """
    decision = Condition(Type.SUCCEEDED, Status.UNKNOWN, finding.reason, finding.message)
    source = _source(seen)
    if source.lost:
        return _over(seen, Finding(Reason.INCONSISTENT, source.lost))
    if not source.settled:
        doubt = Condition(Type.COMMITTED, Status.UNKNOWN, Reason.AGENT_UNREACHABLE, source.message)
        orders = [] if source.action is None else [source.action]
        return actions.Plan(_step(seen), [decision, *[doubt] * bool(source.message)], orders, POLL)
    if any(view is not None and view.outcome == agent_pb2.INCONSISTENT for view in (seen.source, seen.target)):
        return _over(seen, finding)
    orders = _target(seen, finding)
    if orders or _target_present(seen):
        return actions.Plan(_step(seen), [decision], orders, POLL)
    return _over(seen, finding)


def _step(seen: observation.Observation) -> steps.Step:
    """Return the step in which it failed, which it keeps."""
    reported = "" if seen.source is None or seen.source.report is None else seen.source.report.step
    return timeline.later(seen.migration.step, reported)


def _source(seen: observation.Observation) -> _Source:
    view = seen.source
    if view is not None and view.running:
        return _Source(settled=False, action=actions.Abort(Role.SOURCE, "the operator undoes the migration"))
    if view is not None and view.reachable:
        return _Source(settled=True)
    if not seen.migration.condition_is(Type.TARGET_READY, Status.TRUE):  # Start is ordered after that was published
        return _Source(settled=True)
    pod_gone = pods.uid(seen.source_pod) != seen.migration.source.pod_uid
    node_gone = view is not None and view.node_gone
    if not (pod_gone or node_gone):
        detail = view.message if view is not None else "not asked yet"
        return _Source(settled=False, message=f"waiting for the agent of the source node to undo: {detail}")
    target = seen.target
    if target is not None and not target.reachable and not target.node_gone:
        return _Source(settled=False, message="the source is gone; waiting for the agent of the target node")
    if target is not None and target.report is not None and target.report.step in _IN_DOUBT and target.running:
        return _Source(
            settled=False,
            lost="the source is gone and the target cannot know whether it committed; its pod is left alone",
        )
    return _Source(settled=True)


def _target(seen: observation.Observation, finding: Finding) -> list[actions.Action]:
    orders: list[actions.Action] = []
    if seen.target is not None and seen.target.running:
        orders.append(actions.Abort(Role.TARGET, finding.message))
    elif _target_present(seen) and seen.target_pod is not None and not pods.terminating(seen.target_pod):
        orders.append(actions.DeletePod(seen.target_pod["metadata"]["name"], pods.uid(seen.target_pod)))
    return orders


def _target_present(seen: observation.Observation) -> bool:
    return seen.target_pod is not None and target_pod.ours(seen.target_pod, seen.migration.uid)


def _over(seen: observation.Observation, finding: Finding) -> actions.Plan:
    """Return the end: the migration failed, and the message says how the source pod was found."""
    source, place = seen.source_pod, seen.migration.source
    if not place.pod_uid:
        after = ""
    elif source is not None and pods.uid(source) == place.pod_uid and not pods.not_running(source):
        after = f"; pod {place.pod_name} runs on node {place.node}"
    else:
        after = f"; pod {place.pod_name} does not run"
    failed = Condition(Type.SUCCEEDED, Status.FALSE, finding.reason, finding.message + after)
    uncommitted = Condition(Type.COMMITTED, Status.FALSE, finding.reason, "there was no commit")
    return actions.Plan(_step(seen), [failed, *[uncommitted] * seen.migration.accepted])
