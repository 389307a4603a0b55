"""The steps of one migration in time: how far it is, when each step began and how long it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from podferry import steps
from podferry.wire import agent_pb2
from podferry_operator.api import times


def later(step: steps.Step, reported: str) -> steps.Step:
    """Return the later of a step on record and one in a report; a word that is no step counts for nothing."""
    try:
        return max(step, steps.Step(reported), key=steps.ORDER.__getitem__)
    except ValueError:
        return step


def update(
    before: Sequence[Mapping[str, Any]],
    reported: Iterable[agent_pb2.StepTiming],
    step: steps.Step,
    *,
    now: float,
    ended: bool,
) -> list[dict[str, Any]]:
    """Return status.timings: the agent's own figures for its steps, and for the operator's what was seen.

    A step that the operator leads begins when it is first published and ends where the next step began.
    """
    known: dict[steps.Step, tuple[float, float | None]] = {
        steps.Step(item["step"]): (times.parse(item["startedAt"]), item.get("seconds")) for item in before
    }
    for timing in reported:
        if timing.step not in steps.ORDER:
            continue
        step_reported, started = steps.Step(timing.step), timing.started_unix_ns / 1e9
        took = (timing.finished_unix_ns - timing.started_unix_ns) / 1e9 if timing.finished_unix_ns else None
        if not _ours(step_reported):
            known[step_reported] = (started, took)
        elif step_reported not in known:  # the agent's share of it is over before ours
            known[step_reported] = (started, None)
    if _ours(step) and step is not steps.Step.DONE:
        known.setdefault(step, (now, None))
    ordered = sorted(known, key=steps.ORDER.__getitem__)
    for number, entry in enumerate(ordered):
        started, took = known[entry]
        if took is None and (ended or steps.ORDER[entry] < steps.ORDER[step]):
            finish = known[ordered[number + 1]][0] if number + 1 < len(ordered) else now
            known[entry] = (started, max(finish - started, 0.0))
    return [_item(entry, *known[entry]) for entry in ordered]


def _ours(step: steps.Step) -> bool:
    return steps.row(step).lead is steps.Lead.OPERATOR


def _item(step: steps.Step, started: float, took: float | None) -> dict[str, Any]:
    item: dict[str, Any] = {"step": step.value, "startedAt": times.micro(started)}
    if took is not None:
        item["seconds"] = round(took, 6)
    return item
