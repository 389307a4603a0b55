"""What is published: conditions, timings, figures, Events, metrics."""

from __future__ import annotations

import prometheus_client
import pytest
from tests.support.operator_objects import NOW, migration, seen

from podferry import errors, steps
from podferry.steps import Step
from podferry.wire import agent_pb2
from podferry_operator import metrics
from podferry_operator.api import conditions, durations, times
from podferry_operator.api.conditions import Condition, Status, Type
from podferry_operator.domain import actions, news, status, timeline
from podferry_operator.domain.observation import AgentView


def _timing(step: Step, started: float, finished: float = 0.0) -> agent_pb2.StepTiming:
    return agent_pb2.StepTiming(
        step=step.value, started_unix_ns=int(started * 1e9), finished_unix_ns=int(finished * 1e9)
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("1h1m1s1ms", 3661.001)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert durations.parse(text, "spec.deadline") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "0s", "0h0m", "-5s", "1d", "1 s", "1s "])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidInput, match=r"spec\.deadline"):
        durations.parse(text, "spec.deadline")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0ms"), (0.00082, "0.82ms"), (0.4123, "412ms"), (0.9999, "1000ms"), (2.314, "2.31s"), (185.2, "3m05s")],
)
def test_durations_are_shown(seconds: float, text: str) -> None:
    assert durations.display(seconds) == text


def test_a_condition_keeps_the_time_of_its_status() -> None:
    first = conditions.merge((), [Condition(Type.ACCEPTED, Status.TRUE, "Valid", "a")], now=NOW, generation=1)
    second = conditions.merge(first, [Condition(Type.ACCEPTED, Status.TRUE, "Valid", "b")], now=NOW + 9, generation=1)
    third = conditions.merge(second, [Condition(Type.ACCEPTED, Status.FALSE, "No", "c")], now=NOW + 9, generation=1)
    assert second[0]["lastTransitionTime"] == first[0]["lastTransitionTime"] == times.text(NOW)
    assert third[0]["lastTransitionTime"] == times.text(NOW + 9)


def test_timings_are_the_agents_own_and_ours_between_them() -> None:
    after_prepare = timeline.update((), (), Step.PREPARE, now=NOW, ended=False)
    assert after_prepare == [{"step": "Prepare", "startedAt": times.micro(NOW)}]
    reported = [_timing(Step.FREEZE, NOW + 2, NOW + 2.5), _timing(Step.SAVE, NOW + 2.5)]
    saving = timeline.update(after_prepare, reported, Step.SAVE, now=NOW + 3, ended=False)
    assert [(item["step"], item.get("seconds")) for item in saving] == [
        ("Prepare", 2.0),
        ("Freeze", 0.5),
        ("Save", None),
    ]
    ended = timeline.update(saving, reported, Step.SAVE, now=NOW + 4, ended=True)
    assert ended[-1]["seconds"] == 1.5


def test_cleanup_is_longer_than_the_agents_share_of_it() -> None:
    reported = [_timing(Step.RESUME, NOW, NOW + 1), _timing(Step.CLEANUP, NOW + 1, NOW + 1.1)]
    going = timeline.update((), reported, Step.CLEANUP, now=NOW + 2, ended=False)
    assert "seconds" not in going[-1]
    done = timeline.update(going, reported, Step.DONE, now=NOW + 5, ended=True)
    assert done[-1] == {"step": "Cleanup", "startedAt": times.micro(NOW + 1), "seconds": 4.0}


def test_a_step_never_goes_back() -> None:
    for step in steps.Step:
        assert timeline.later(step, "") is step
        assert timeline.later(step, "NoSuchStep") is step
        assert timeline.later(step, Step.REQUESTED.value) is step
        assert timeline.later(step, Step.DONE.value) is Step.DONE


def _report() -> agent_pb2.Report:
    return agent_pb2.Report(
        step="Resume",
        committed=True,
        freeze_seconds=0.4123,
        memory_bytes=10,
        image_bytes=11,
        connections=agent_pb2.ConnectionTotals(total=200, kept=199, closed=1, bytes_queued=5, dead_seconds=0.038),
        audit=[agent_pb2.ConnectionAudit(local="l", peer="p", fate="kept", answered_seconds=0.01)] * 200,
    )


def test_figures_of_the_report_are_published_and_bounded() -> None:
    look = seen(migration(), source=AgentView(reachable=True, report=_report()))
    wanted = status.render(look, actions.Plan(Step.RESUME))
    assert wanted["freezeSeconds"] == 0.4123
    assert wanted["display"] == {"freeze": "412ms", "dead": "38ms"}
    assert wanted["memory"] == {"bytes": 10, "imageBytes": 11}
    assert wanted["connections"]["kept"] == 199
    assert wanted["connections"]["deadTimeMs"] == 38.0
    assert len(wanted["connections"]["audit"]) == 100
    assert wanted["connections"]["audit"][0]["answeredMs"] == 10.0


def test_nothing_new_is_nothing_to_publish() -> None:
    plan = actions.Plan(Step.PREPARE, [Condition(Type.SUCCEEDED, Status.UNKNOWN, "Migrating", "x")])
    first = status.render(seen(migration()), plan)
    assert status.render(seen(migration(status=first)), plan) == first


def _end(reason: str, value: Status, before: dict[str, object]) -> dict[str, object]:
    plan = actions.Plan(Step.CUT, [Condition(Type.SUCCEEDED, value, reason, "because")])
    return status.render(seen(migration(status=before)), plan)


def test_events_tell_each_thing_once() -> None:
    going = _end("Migrating", Status.UNKNOWN, {})
    undoing = _end("FaultInjected", Status.UNKNOWN, going)
    failed = _end("FaultInjected", Status.FALSE, undoing)
    assert [item.reason for item in news.tell({}, going)] == []
    assert [(item.reason, item.warning) for item in news.tell(going, undoing)] == [(news.UNDOING, True)]
    assert [(item.reason, item.warning) for item in news.tell(undoing, failed)] == [("FaultInjected", True)]
    assert not list(news.tell(failed, failed))


def test_steps_are_told_at_the_pod_that_runs() -> None:
    after = {"timings": [{"step": "Cut"}, {"step": "Commit"}], "conditions": []}
    told = list(news.tell({"timings": [{"step": "Save"}]}, after))
    assert [(item.reason, item.on_target) for item in told] == [("Cut", False), ("Commit", True)]


def test_a_finished_migration_is_counted() -> None:
    counters = metrics.Metrics(prometheus_client.CollectorRegistry())
    look = seen(migration(), source=AgentView(reachable=True, report=_report()))
    moved = Condition(Type.SUCCEEDED, Status.TRUE, "Moved", "")
    counters.finished(status.render(look, actions.Plan(Step.DONE, [moved])))
    value = counters.registry.get_sample_value
    assert value("podferry_migrations_total", {"result": "succeeded", "reason": "Moved"}) == 1
    assert value("podferry_freeze_seconds_sum") == 0.4123
    assert value("podferry_connection_dead_seconds_sum") == pytest.approx(0.038)
    assert value("podferry_connections_total", {"outcome": "kept"}) == 199
