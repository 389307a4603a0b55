"""What the agents' answers mean, before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator

from podferry import errors
from podferry.wire import agent_pb2
from podferry_operator.api import durations
from podferry_operator.api.migration import Migration
from podferry_operator.api.reasons import Reason
from podferry_operator.domain import observation, pods
from podferry_operator.domain.validation import Finding

NAMED = 5
"""How many unmovable sockets a message names; status.connections.unmovable has them all."""


SKEW_SECONDS = 1.0
"""Difference of two nodes' clocks that is worth a word; asking both takes less."""


def unanswered(answers: observation.Preflight) -> errors.Transient | None:
    """Return a failure that may pass by itself, if there is one."""
    return next((error for error in answers.failures if isinstance(error, errors.Transient)), None)


def check(answers: observation.Preflight, migration: Migration) -> list[Finding]:
    """Return everything that stands against the migration."""
    findings = [
        Finding(Reason.AGENT_UNREACHABLE if isinstance(error, errors.Transient) else error.reason, error.message)
        for error in answers.failures
    ]
    for capabilities in (answers.source, answers.target):
        if capabilities is not None:
            findings += [
                Finding(Reason.NODE_INCAPABLE, f"node {capabilities.node}: {problem.reason}: {problem.message}")
                for problem in capabilities.missing
            ]
    if answers.source is not None and answers.target is not None:
        findings += _mismatch(answers.source, answers.target)
        if answers.inspection is not None:
            findings += _memory(answers.source, answers.target, answers.inspection)
    if answers.inspection is not None:
        findings += _pod(answers.inspection, migration)
    return findings


def _mismatch(source: agent_pb2.Capabilities, target: agent_pb2.Capabilities) -> Iterator[Finding]:
    if source.backends and target.backends and not set(source.backends) & set(target.backends):
        yield Finding(
            Reason.NODE_INCAPABLE, f"nodes {source.node} and {target.node} have no connection backend in common"
        )
    if source.machine != target.machine:
        yield Finding(
            Reason.NODE_INCAPABLE,
            f"node {source.node} is {source.machine}, node {target.node} {target.machine or 'unknown'}",
        )
        return
    lacking = sorted(set(source.cpu_features) - set(target.cpu_features))
    if lacking:
        yield Finding(
            Reason.NODE_INCAPABLE,
            f"node {target.node} lacks CPU features that the pod may use: {', '.join(lacking)}",
        )
    if version(source.criu) > version(target.criu):
        yield Finding(
            Reason.NODE_INCAPABLE,
            f"criu {target.criu or 'unknown'} of node {target.node} may not read what criu {source.criu} of node "
            f"{source.node} writes; install the same there, or a newer one",
        )


def _memory(
    source: agent_pb2.Capabilities, target: agent_pb2.Capabilities, inspection: agent_pb2.Inspection
) -> Iterator[Finding]:
    for node, copies, what in ((source, 1, "the images"), (target, 2, "the images and the restored pod")):
        needed = copies * inspection.memory_bytes
        if node.memory_available_bytes < needed:
            yield Finding(
                Reason.NODE_LACKS_MEMORY,
                f"node {node.node} has {durations.size(node.memory_available_bytes)} of memory free; "
                f"{what} need {durations.size(needed)}",
            )


def version(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, for comparison: "6.1.0-13-cloud" is (6, 1, 0)."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(number) for number in found.group().split(".")) if found else ()


def _pod(inspection: agent_pb2.Inspection, migration: Migration) -> Iterator[Finding]:
    for problem in inspection.problems:
        yield Finding(Reason.POD_NOT_MOVABLE, f"spec.podName: {problem.reason}: {problem.message}")
    if inspection.unmovable and not migration.spec.close_unmovable:
        named = [f"{item.socket} of {item.process}: {item.message}" for item in inspection.unmovable[:NAMED]]
        more = len(inspection.unmovable) - len(named)
        named += [f"and {more} more"] * bool(more)
        yield Finding(
            Reason.UNMOVABLE_CONNECTIONS,
            f"{len(inspection.unmovable)} sockets cannot move; spec.connections.onUnmovable: Close gives them up: "
            + "; ".join(named),
        )


def summary(answers: observation.Preflight, migration: Migration, pod: observation.Object | None) -> str:
    """Return the sentence for a migration that nothing stands against."""
    inspection = answers.inspection or agent_pb2.Inspection()
    parts = [f"{inspection.connections} connections and {durations.size(inspection.memory_bytes)} of memory can move"]
    if inspection.unmovable:
        parts.append(f"{len(inspection.unmovable)} sockets will be closed")
    if pod is not None:
        seconds, container = pods.liveness_patience(pod) or (float("inf"), "")
        if seconds < migration.freeze_budget_seconds:
            parts.append(f"freeze budget lowered to {durations.display(seconds)} by the liveness probe of {container}")
    if answers.source is not None and answers.target is not None:
        parts += _differences(answers.source, answers.target)
    return "; ".join(parts)


def _differences(source: agent_pb2.Capabilities, target: agent_pb2.Capabilities) -> Iterator[str]:
    """Yield what the pod may notice although it can move."""
    if version(source.kernel)[:2] > version(target.kernel)[:2]:
        yield f"kernel {target.kernel} of node {target.node} is older than {source.kernel} of node {source.node}"
    skew = (target.clock_unix_ns - source.clock_unix_ns) / 1e9
    if abs(skew) > SKEW_SECONDS:
        told = f"{durations.display(abs(skew))} {'ahead of' if skew > 0 else 'behind'}"
        yield f"the clock of node {target.node} is {told} that of node {source.node}"


def freeze_budget(migration: Migration, pod: observation.Object) -> float:
    """Return the seconds the pod may stand still: spec.freezeBudget, or less when a liveness probe is less patient."""
    patience = pods.liveness_patience(pod)
    return migration.freeze_budget_seconds if patience is None else min(migration.freeze_budget_seconds, patience[0])
