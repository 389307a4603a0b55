"""The operator is killed in every step, and another takes over: nothing is lost, nothing is done twice."""

from __future__ import annotations

import pytest
from tests.support import stage

from podferry.steps import Step
from podferry_operator.clients import kube

Place = tuple[stage.Stage, stage.Operator]


def _moved(place: stage.Stage, uid: str) -> None:
    status = place.end()
    assert status["conditions"][-1]["reason"] == "Moved"
    assert place.running(f"web-{uid[:5]}") is not None
    assert [pod["metadata"]["name"] for pod in stage.run(place.api.list(kube.PODS, place.namespace))] == [
        f"web-{uid[:5]}"
    ]
    assert place.a.entries == place.b.entries == {}
    assert place.a.calls.count("Start") >= 1


@pytest.mark.parametrize("step", [Step.FREEZE, Step.RESTORE, Step.CUT, Step.COMMIT, Step.RESUME])
def test_killed_while_the_agents_are_at_it(own_place: Place, step: Step) -> None:
    place, operator = own_place
    place.pod()
    place.a.script.hold_at = {step}
    operator.start()
    uid = place.migrate()
    place.a.wait_for(step)
    operator.kill()
    place.a.release()  # the agents end it without an operator
    if step is not Step.RESUME:
        place.a.wait_for(Step.RESUME)
    operator.start()
    _moved(place, uid)
    assert place.a.calls.count("Start") == 1


def test_killed_in_prepare_it_orders_anew_with_a_new_token(own_place: Place) -> None:
    place, operator = own_place
    place.pod()
    place.kubelets.pull_error = "slow registry"
    operator.start()
    uid = place.migrate()
    stage.until("it prepares", lambda: "Admit" in place.b.calls)
    before = place.b.entries[uid].order.token
    operator.kill()
    place.kubelets.pull_error = ""
    operator.start()
    _moved(place, uid)
    assert place.b.calls.count("Admit") == 2
    assert len(before) == 64


def test_killed_while_undoing(own_place: Place) -> None:
    place, operator = own_place
    source = place.pod()
    place.a.script.hold_at = {Step.SEND}
    place.a.script.fail_at = Step.RESTORE
    operator.start()
    place.migrate()
    place.a.wait_for(Step.SEND)
    operator.kill()
    place.a.release()
    stage.until("rolled back", lambda: any(entry.report.outcome for entry in place.a.entries.values()))
    operator.start()
    assert place.end()["conditions"][-1]["reason"] == "FaultInjected"
    (pod,) = stage.run(place.api.list(kube.PODS, place.namespace))
    assert pod["metadata"]["uid"] == source["metadata"]["uid"]


def test_orders_given_while_no_operator_runs_are_carried_out(own_place: Place) -> None:
    place, operator = own_place
    place.pod()
    uid = place.migrate()
    operator.start()
    _moved(place, uid)


def test_deleted_while_no_operator_runs(own_place: Place) -> None:
    place, operator = own_place
    source = place.pod()
    place.a.script.hold_at = {Step.SAVE}
    operator.start()
    place.migrate()
    place.a.wait_for(Step.SAVE)
    operator.kill()
    stage.run(place.api.delete(kube.MIGRATIONS, place.namespace, "move"))
    operator.start()
    stage.until("the order is gone", lambda: place.get(kube.MIGRATIONS, "move") is None)
    (pod,) = stage.run(place.api.list(kube.PODS, place.namespace))
    assert pod["metadata"]["uid"] == source["metadata"]["uid"]


def test_it_stops_at_once_when_told(own_place: Place) -> None:
    place, operator = own_place
    place.pod()
    place.a.script.hold_at = {Step.SAVE}
    operator.start()
    place.migrate()
    place.a.wait_for(Step.SAVE)
    operator.stop()
    place.a.release()
