"""What fails before Commit is undone, what is committed is finished, whatever becomes of the order meanwhile."""

from __future__ import annotations

import pytest
from tests.support import stage

from podferry.steps import Step
from podferry_operator.clients import kube


def _as_before(place: stage.Stage, source: stage.Object) -> None:
    (pod,) = stage.run(place.api.list(kube.PODS, place.namespace))
    assert pod["metadata"]["uid"] == source["metadata"]["uid"]
    assert "deletionTimestamp" not in pod["metadata"]
    assert place.a.entries == place.b.entries == {}


@pytest.mark.parametrize("step", [Step.FREEZE, Step.RESTORE, Step.CUT, Step.COMMIT])
def test_a_failed_step_is_undone(place: stage.Stage, step: Step) -> None:
    source = place.pod()
    place.a.script.fail_at = step
    place.migrate()
    status = place.end()
    succeeded = status["conditions"][-1]
    assert (succeeded["status"], succeeded["reason"]) == ("False", "FaultInjected")
    assert f"injected in {step}" in succeeded["message"]
    assert f"pod web runs on node {place.a.node}" in succeeded["message"]
    assert status["step"] == step
    assert "Undoing" in place.events("ServiceMigration", "move")
    _as_before(place, source)


def test_an_image_that_cannot_be_pulled_is_said_and_bounded(place: stage.Stage) -> None:
    source = place.pod()
    place.kubelets.pull_error = "registry says no"
    place.migrate(deadline="4s")
    stage.until("the reason is shown", lambda: place.condition("TargetReady").get("reason") == "ErrImagePull")
    succeeded = place.end()["conditions"][-1]
    assert succeeded["reason"] == "DeadlineExceeded"
    assert "ErrImagePull" in succeeded["message"]
    assert "registry says no" in succeeded["message"]
    assert "Start" not in place.a.calls
    _as_before(place, source)


def test_a_target_pod_that_somebody_deletes(place: stage.Stage) -> None:
    source = place.pod()
    place.kubelets.pull_error = "not yet"
    uid = place.migrate()
    stage.until("it is there", lambda: place.condition("TargetReady").get("reason") == "ErrImagePull")
    stage.run(place.api.delete(kube.PODS, place.namespace, f"web-{uid[:5]}"))
    assert place.end()["conditions"][-1]["reason"] == "TargetPodGone"
    _as_before(place, source)


@pytest.mark.parametrize("step", [None, Step.FREEZE, Step.CUT])
def test_deleting_the_order_before_commit_aborts(place: stage.Stage, step: Step | None) -> None:
    source = place.pod()
    if step is None:
        place.kubelets.pull_error = "not yet"
    else:
        place.a.script.hold_at = {step}
    place.migrate()
    if step is None:
        stage.until("it prepares", lambda: place.condition("TargetReady").get("reason") == "ErrImagePull")
    else:
        place.a.wait_for(step)
    stage.run(place.api.delete(kube.MIGRATIONS, place.namespace, "move"))
    stage.until("the order is gone", lambda: place.get(kube.MIGRATIONS, "move") is None)
    _as_before(place, source)


def test_deleting_the_order_after_commit_waits_for_the_end(place: stage.Stage) -> None:
    place.pod()
    place.a.script.hold_at = {Step.RESUME}
    uid = place.migrate()
    place.a.wait_for(Step.RESUME)
    stage.run(place.api.delete(kube.MIGRATIONS, place.namespace, "move"))
    stage.until("it is committed", lambda: place.condition("Committed").get("status") == "True")
    assert place.get(kube.PODS, "web") is not None
    place.a.release()
    stage.until("the order is gone", lambda: place.get(kube.MIGRATIONS, "move") is None)
    assert place.running(f"web-{uid[:5]}") is not None
    assert place.get(kube.PODS, "web") is None
    assert "Abort" not in place.a.calls


def test_a_silent_source_is_waited_for_because_it_alone_knows(place: stage.Stage) -> None:
    source = place.pod()
    place.a.script.hold_at = {Step.CUT}
    uid = place.migrate()
    place.a.wait_for(Step.CUT)
    place.a.stop()
    stage.run(place.api.delete(kube.MIGRATIONS, place.namespace, "move"))
    stage.until("nobody knows", lambda: place.condition("Committed").get("status") == "Unknown")
    assert place.get(kube.PODS, f"web-{uid[:5]}") is not None
    place.a.start()
    stage.until("the order is gone", lambda: place.get(kube.MIGRATIONS, "move") is None)
    _as_before(place, source)


def test_a_commit_that_nobody_saw_is_finished(place: stage.Stage) -> None:
    place.pod()
    place.a.script.hold_at = {Step.CUT}
    uid = place.migrate()
    place.a.wait_for(Step.CUT)
    place.a.stop()
    stage.run(place.api.delete(kube.MIGRATIONS, place.namespace, "move"))
    stage.until("nobody knows", lambda: place.condition("Committed").get("status") == "Unknown")
    place.a.release()
    place.a.wait_for(Step.RESUME)
    place.a.start()
    stage.until("the order is gone", lambda: place.get(kube.MIGRATIONS, "move") is None)
    assert place.running(f"web-{uid[:5]}") is not None
    assert place.get(kube.PODS, "web") is None


def test_the_freeze_may_outlive_nothing_but_the_deadline(place: stage.Stage) -> None:
    source = place.pod()
    place.a.script.hold_at = {Step.SEND}
    place.migrate(deadline="3s")
    assert place.end()["conditions"][-1]["reason"] == "DeadlineExceeded"
    _as_before(place, source)
