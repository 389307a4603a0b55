"""The report: legal moves only, timings that end, watchers that see the last state."""

from __future__ import annotations

import threading

import pytest

from podferry import clock, errors
from podferry.steps import Step
from podferry.wire import agent_pb2
from podferry_agent.migration import progress


def make(role: agent_pb2.Role = agent_pb2.SOURCE) -> tuple[progress.Progress, clock.ManualClock]:
    manual = clock.ManualClock()
    return progress.Progress("id", role, manual), manual


def test_each_step_ends_where_the_next_begins() -> None:
    report, manual = make()
    report.enter(Step.FREEZE)
    manual.advance(2)
    report.enter(Step.SAVE)
    freeze, save = report.snapshot().timings
    assert freeze.finished_unix_ns - freeze.started_unix_ns == 2_000_000_000
    assert save.started_unix_ns == freeze.finished_unix_ns
    assert save.finished_unix_ns == 0


def test_an_illegal_step_is_refused() -> None:
    report, _ = make()
    report.enter(Step.FREEZE)
    with pytest.raises(errors.Inconsistent, match="IllegalStep"):
        report.enter(Step.CUT)


def test_a_watcher_sees_the_outcome_and_is_done() -> None:
    report, _ = make()
    seen: list[str] = []
    watcher = threading.Thread(target=lambda: seen.extend(r.reason for r in report.watch(lambda: True)))
    watcher.start()
    report.enter(Step.FREEZE)
    report.finish(agent_pb2.ROLLED_BACK, "Aborted", "by hand")
    watcher.join(10)
    assert not watcher.is_alive()
    assert seen[-1] == "Aborted"


def test_a_watcher_that_went_away_is_let_go() -> None:
    report, _ = make()
    assert len(list(report.watch(lambda: False, poll=0.01))) == 1


def test_the_audit_is_bounded_and_its_totals_are_not() -> None:
    report, _ = make()
    kept = [agent_pb2.ConnectionAudit(fate="kept", bytes_queued=1) for _ in range(150)]
    report.audit([*kept, agent_pb2.ConnectionAudit(fate="closed: reset", bytes_queued=7)])
    snapshot = report.snapshot()
    totals = snapshot.connections
    assert (totals.total, totals.kept, totals.closed, totals.bytes_queued) == (151, 150, 1, 157)
    assert len(snapshot.audit) == progress.AUDIT_LIMIT
