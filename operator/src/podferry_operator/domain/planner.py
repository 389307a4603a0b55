"""From what is observed to what is done next: the heart of the operator.

`plan` walks podferry.steps. It keeps no memory: the step comes from the agents' reports, the pods and the published
conditions, so that a restarted operator goes on where the last one ended.
"""

from __future__ import annotations

from podferry import steps
from podferry.wire import agent_pb2
from podferry_operator.api.conditions import Condition, Status, Type
from podferry_operator.api.migration import Migration
from podferry_operator.api.reasons import Reason
from podferry_operator.domain import (
    actions,
    finish,
    observation,
    pods,
    preflight,
    target_pod,
    timeline,
    undo,
    validation,
)
from podferry_operator.domain.undo import POLL
from podferry_operator.domain.validation import Finding

AGENT_PATIENCE = 30.0
"""Seconds from acceptance for which preflight waits for an agent that does not answer."""

ORDER_MARGIN = 60.0
"""Seconds that a target's order outlives spec.deadline, so that it never expires under a migration that may go on."""


def plan(seen: observation.Observation) -> actions.Plan:
    """Return what follows from one observation.

    Conditions are published before the actions run, so a decision is on record before anything follows from it.

    Invariants, for any sequence of observations, plans, half-executed plans and restarts:
    * nothing is touched before Accepted and Preflight are published as True;
    * Start is ordered only after TargetReady was published as True, so until then the source is surely unaware;
    * the source pod is deleted only when an agent says that the traffic is on the target (`finish`);
    * the target pod is deleted only when the source cannot commit any more (`undo`);
    * between Start and the agents' outcome there is no action but Abort;
    * once finished, only Forget, RemoveFinalizer and DeleteMigration follow.
    """
    migration = seen.migration
    if migration.finished:
        return finish.after(seen)
    if finish.reached(seen):
        return finish.plan(seen)
    finding = undo.why(seen)
    if finding is not None:
        return undo.plan(seen, finding)
    if not migration.accepted:
        return _accept(seen)
    if not migration.condition_is(Type.PREFLIGHT, Status.TRUE):
        return _preflight(seen)
    if seen.source is not None and seen.source.running:
        return _follow(seen)
    return _prepare(seen)


def idle(migration: Migration) -> bool:
    """Tell whether a migration needs no loop at all: it is finished, and nothing holds or awaits it."""
    return migration.finished and not migration.held and migration.spec.ttl_after_finished is None


def _going(message: str, seen: observation.Observation) -> Condition:
    trouble = f": {seen.failure}" if seen.failure is not None else ""
    return Condition(Type.SUCCEEDED, Status.UNKNOWN, Reason.MIGRATING, message + trouble)


def _refused(kind: Type, step: steps.Step, findings: list[Finding]) -> actions.Plan:
    message = "; ".join(finding.message for finding in findings)
    reason = findings[0].reason
    return actions.Plan(
        step, [Condition(kind, Status.FALSE, reason, message), Condition(Type.SUCCEEDED, Status.FALSE, reason, message)]
    )


def _accept(seen: observation.Observation) -> actions.Plan:
    findings = validation.check(seen)
    if findings:
        return _refused(Type.ACCEPTED, steps.Step.REQUESTED, findings)
    if not seen.migration.held and not seen.migration.spec.dry_run:
        return actions.Plan(steps.Step.REQUESTED, [_going("checking the order", seen)], [actions.AddFinalizer()])
    accepted = Condition(Type.ACCEPTED, Status.TRUE, Reason.VALID, "the pod and the node are as they should be")
    return actions.Plan(steps.Step.PREFLIGHT, [accepted, _going("asking both agents", seen)])


def _preflight(seen: observation.Observation) -> actions.Plan:
    answers, migration = seen.preflight or observation.Preflight(), seen.migration
    silent = preflight.unanswered(answers)
    if silent is not None and seen.now < (migration.started_at or seen.now) + AGENT_PATIENCE:
        waits = Condition(Type.PREFLIGHT, Status.UNKNOWN, Reason.AGENT_UNREACHABLE, silent.message)
        return actions.Plan(steps.Step.PREFLIGHT, [waits, _going("asking both agents", seen)], wait=silent.retry_after)
    findings = preflight.check(answers, migration)
    if findings:
        return _refused(Type.PREFLIGHT, steps.Step.PREFLIGHT, findings)
    summary = preflight.summary(answers, migration, seen.source_pod)
    movable = Condition(Type.PREFLIGHT, Status.TRUE, Reason.MOVABLE, summary)
    if migration.spec.dry_run:
        done = Condition(Type.SUCCEEDED, Status.TRUE, Reason.DRY_RUN, f"{summary}; nothing was changed")
        return actions.Plan(steps.Step.PREFLIGHT, [movable, done])
    return actions.Plan(steps.Step.PREPARE, [movable, _going("preparing the target pod", seen)])


def _prepare(seen: observation.Observation) -> actions.Plan:
    migration, source, target = seen.migration, seen.source_pod, seen.target_pod
    if source is None:  # undo.why has seen to it
        return actions.Plan(migration.step, wait=POLL)
    if target is None:
        body = target_pod.build(source, migration.uid, migration.spec.target_node)
        made = Condition(
            Type.TARGET_READY, Status.UNKNOWN, Reason.POD_CREATED, f"creating pod {body['metadata']['name']}"
        )
        return actions.Plan(steps.Step.PREPARE, [made], [actions.CreatePod(body)])
    ready = _target_ready(seen, target)
    conditions = [ready, _going("preparing the target pod", seen)]
    if not seen.token_held or (seen.target is not None and seen.target.unknown):
        return actions.Plan(steps.Step.PREPARE, conditions, [actions.Admit(_order(seen, source, target))])
    if not _hook_waits(seen):
        return actions.Plan(steps.Step.PREPARE, conditions, wait=POLL)
    return actions.Plan(steps.Step.PREPARE, conditions, [actions.Start(_start(seen, source, target))])


def _target_ready(seen: observation.Observation, target: observation.Object) -> Condition:
    name = target["metadata"]["name"]
    recorded = seen.migration.condition_is(
        Type.TARGET_READY, Status.TRUE
    )  # kept: it says that Start may have been sent
    if recorded or _hook_waits(seen):
        return Condition(Type.TARGET_READY, Status.TRUE, Reason.WAITING, f"pod {name} waits for its processes")
    for reason, message in pods.waiting(target):
        return Condition(Type.TARGET_READY, Status.FALSE, reason, f"pod {name}: {message}")
    if seen.warnings:
        event = seen.warnings[-1]
        return Condition(Type.TARGET_READY, Status.FALSE, event["reason"], f"pod {name}: {event['message']}")
    if seen.target is not None and not seen.target.reachable:
        return Condition(Type.TARGET_READY, Status.FALSE, Reason.AGENT_UNREACHABLE, seen.target.message)
    return Condition(Type.TARGET_READY, Status.UNKNOWN, Reason.POD_CREATED, f"pod {name} is being prepared")


def _hook_waits(seen: observation.Observation) -> bool:
    return seen.target is not None and seen.target.report is not None and seen.target.report.hook_waiting


def _follow(seen: observation.Observation) -> actions.Plan:
    report = seen.source.report if seen.source is not None and seen.source.report is not None else agent_pb2.Report()
    step = timeline.later(seen.migration.step, report.step)
    return actions.Plan(step, [_going(steps.row(step).does, seen)], wait=POLL * 4)


def _reference(pod: observation.Object) -> agent_pb2.PodRef:
    metadata = pod["metadata"]
    return agent_pb2.PodRef(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


def _order(
    seen: observation.Observation, source: observation.Object, target: observation.Object
) -> agent_pb2.AdmitRequest:
    migration = seen.migration
    expires = (migration.started_at or seen.now) + migration.deadline_seconds + ORDER_MARGIN
    return agent_pb2.AdmitRequest(
        migration_id=migration.uid,
        source_node=migration.source.node,
        target_pod=_reference(target),
        source_pod=_reference(source),
        containers=pods.containers(source),
        expires_unix=int(expires),
    )


def _start(
    seen: observation.Observation, source: observation.Object, target: observation.Object
) -> agent_pb2.StartRequest:
    migration = seen.migration
    return agent_pb2.StartRequest(
        migration_id=migration.uid,
        source_pod=_reference(source),
        target_pod=_reference(target),
        target_node=migration.spec.target_node,
        target_endpoint=seen.target_endpoint,
        containers=pods.containers(source),
        freeze_budget_seconds=preflight.freeze_budget(migration, source),
        close_unmovable=migration.spec.close_unmovable,
        flush=migration.spec.flush,
    )
