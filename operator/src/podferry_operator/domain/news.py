"""Events: what changed between two published statuses, told to people who watch the migration or its pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from podferry import steps
from podferry_operator.api import conditions
from podferry_operator.api.conditions import Status, Type
from podferry_operator.api.reasons import Reason

UNDOING = "Undoing"
"""Reason of the Event that tells that a migration has to be undone; it carries the reason for it in its message."""


@dataclass(frozen=True, slots=True)
class News:
    """One Event, for the migration and for the pod that runs the processes at that step."""

    warning: bool
    reason: str
    message: str
    on_target: bool = False


def tell(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[News]:
    """Yield what is new in `after`, in order: steps, trouble with the target pod, the decision to undo, the end."""
    known = {item["step"] for item in before.get("timings", ())}
    for item in after.get("timings", ()):
        if item["step"] not in known:
            step = steps.Step(item["step"])
            yield News(warning=False, reason=step.value, message=steps.row(step).does, on_target=steps.committed(step))
    was, now = conditions.read(before.get("conditions", ())), conditions.read(after.get("conditions", ()))
    ready, ready_before = now.get(Type.TARGET_READY), was.get(Type.TARGET_READY)
    trouble = ready is not None and ready.status is Status.FALSE
    if ready is not None and trouble and (ready_before is None or ready_before.reason != ready.reason):
        yield News(warning=True, reason=ready.reason, message=ready.message)
    end, end_before = now.get(Type.SUCCEEDED), was.get(Type.SUCCEEDED)
    if end is None or (end_before is not None and (end_before.status, end_before.reason) == (end.status, end.reason)):
        return
    if end.status is not Status.UNKNOWN:
        warning = end.status is Status.FALSE
        yield News(warning, end.reason, end.message, on_target=end.reason == Reason.MOVED)
    elif end.reason != Reason.MIGRATING:
        yield News(warning=True, reason=UNDOING, message=f"{end.reason}: {end.message}")
