"""What is published about a migration: the whole status, computed from what was seen and what was decided."""

from __future__ import annotations

import copy
from typing import Any

from podferry.wire import agent_pb2
from podferry_operator.api import conditions, durations, times
from podferry_operator.domain import actions, observation, pods, target_pod, timeline

LIST_LIMIT = 100
"""Entries of status.connections.audit and .unmovable; of the first, the source agent keeps the whole in a file."""


def render(seen: observation.Observation, plan: actions.Plan) -> dict[str, Any]:
    """Return the status to publish; equal to the present one when there is no news."""
    migration = seen.migration
    before = migration.status
    status: dict[str, Any] = copy.deepcopy(dict(before))
    status["observedGeneration"] = migration.generation
    status["conditions"] = conditions.merge(
        before.get("conditions", ()), plan.conditions, now=seen.now, generation=migration.generation
    )
    decided = {item.type: item for item in plan.conditions}.get(conditions.Type.SUCCEEDED)
    ends = decided is not None and decided.status is not conditions.Status.UNKNOWN
    status["step"] = plan.step.value
    status.setdefault("startedAt", times.text(seen.now))
    if ends:
        status.setdefault("completedAt", times.text(seen.now))
    if not migration.finished:
        report = None if seen.source is None else seen.source.report
        status |= _places(seen, status)
        timings = () if report is None else report.timings
        status["timings"] = timeline.update(before.get("timings", ()), timings, plan.step, now=seen.now, ended=ends)
        if seen.preflight is not None and seen.preflight.inspection is not None:
            status |= _inspected(seen.preflight.inspection)
        if report is not None:
            status |= _reported(report, status)
    return status


def _places(seen: observation.Observation, status: dict[str, Any]) -> dict[str, Any]:
    migration, places = seen.migration, {}
    accepted = any(item["type"] == "Accepted" and item["status"] == "True" for item in status["conditions"])
    if accepted and "source" not in status and seen.source_pod is not None:
        places["source"] = _place(seen.source_pod)
    if seen.target_pod is not None and target_pod.ours(seen.target_pod, migration.uid):
        places["target"] = _place(seen.target_pod)
    return places


def _place(pod: observation.Object) -> dict[str, str]:
    addresses = pods.addresses(pod)
    place = {"node": pod["spec"]["nodeName"], "podName": pod["metadata"]["name"], "podUID": pods.uid(pod)}
    return place | ({"address": addresses[0]} if addresses else {})


def _inspected(inspection: agent_pb2.Inspection) -> dict[str, Any]:
    unmovable = [
        {
            "container": item.container,
            "process": item.process,
            "pid": item.pid,
            "fd": item.fd,
            "socket": item.socket,
            "reason": item.reason,
            "message": item.message,
        }
        for item in inspection.unmovable[:LIST_LIMIT]
    ]
    connections: dict[str, Any] = {"total": inspection.connections}
    if unmovable:
        connections["unmovable"] = unmovable
    return {"connections": connections, "memory": {"bytes": inspection.memory_bytes}}


def _reported(report: agent_pb2.Report, status: dict[str, Any]) -> dict[str, Any]:
    news: dict[str, Any] = {}
    if report.freeze_seconds:
        news["freezeSeconds"] = round(report.freeze_seconds, 6)
        news["display"] = {"freeze": durations.display(report.freeze_seconds)}
    if report.image_bytes or report.memory_bytes:
        news["memory"] = {"bytes": report.memory_bytes, "imageBytes": report.image_bytes}
    if report.HasField("connections"):
        totals = report.connections
        news["connections"] = {
            **status.get("connections", {}),
            "total": totals.total,
            "kept": totals.kept,
            "closed": totals.closed,
            "flushed": totals.flushed,
            "bytesQueued": totals.bytes_queued,
            "deadTimeMs": round(totals.dead_seconds * 1000, 3),
        }
        if report.audit:
            news["connections"]["audit"] = [_audit(item) for item in report.audit[:LIST_LIMIT]]
        if report.committed and "display" in news:
            news["display"]["dead"] = durations.display(totals.dead_seconds)
    return news


def _audit(item: agent_pb2.ConnectionAudit) -> dict[str, Any]:
    audit: dict[str, Any] = {
        "local": item.local,
        "peer": item.peer,
        "state": item.state,
        "fate": item.fate,
        "bytesQueued": item.bytes_queued,
        "windowUpdates": item.window_updates,
        "flushed": item.flushed,
    }
    if item.answered_seconds:
        audit["answeredMs"] = round(item.answered_seconds * 1000, 3)
    return audit
