"""Orders that are refused, at every stage before anything is touched: the condition says why, the pod is left alone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.support import kubectl, migrations, stage

from podferry import errors, ids
from podferry.steps import Step
from podferry.wire import agent_pb2
from podferry_operator.clients import kube


def _untouched(place: stage.Stage, status: stage.Object, condition: str, reason: str) -> str:
    conditions = {item["type"]: item for item in status["conditions"]}
    assert (conditions[condition]["status"], conditions[condition]["reason"]) == ("False", reason)
    assert (conditions["Succeeded"]["status"], conditions["Succeeded"]["reason"]) == ("False", reason)
    names = [pod["metadata"]["name"] for pod in stage.run(place.api.list(kube.PODS, place.namespace))]
    assert names in ([], ["web"])
    assert not {"Admit", "Start"} & set(place.a.calls + place.b.calls)
    return str(conditions["Succeeded"]["message"])


def test_no_such_pod(place: stage.Stage) -> None:
    place.migrate(pod="ghost")
    message = _untouched(place, place.end(), "Accepted", "PodNotFound")
    assert message == f"spec.podName: pod {place.namespace}/ghost does not exist"


def test_no_such_node(place: stage.Stage) -> None:
    place.pod()
    place.migrate(node="nowhere")
    assert "spec.targetNode: node nowhere" in _untouched(place, place.end(), "Accepted", "NodeNotFound")


def test_the_same_node(place: stage.Stage) -> None:
    place.pod()
    place.migrate(node=place.a.node)
    _untouched(place, place.end(), "Accepted", "SameNode")


def test_a_node_that_is_not_ready(place: stage.Stage) -> None:
    place.pod()
    down = {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Down", "message": "on fire"}]}}
    stage.run(place.api.merge(kube.NODES, "", place.b.node, down, subresource="status"))
    place.migrate()
    assert "on fire" in _untouched(place, place.end(), "Accepted", "NodeNotReady")


def test_a_pod_that_does_not_run(place: stage.Stage) -> None:
    place.kubelets.pull_error = "no such image"
    body = {
        "metadata": {"name": "web"},
        "spec": {"nodeName": place.a.node, "containers": [{"name": "main", "image": "i"}]},
    }
    stage.run(place.api.create(kube.PODS, place.namespace, body))
    place.migrate()
    _untouched(place, place.end(), "Accepted", "PodNotRunning")


def test_a_zero_freeze_budget(place: stage.Stage) -> None:
    place.pod()
    place.migrate(freezeBudget="0s")
    assert "spec.freezeBudget" in _untouched(place, place.end(), "Accepted", "Invalid")


@pytest.mark.parametrize(
    "spec",
    [{"podName": "web"}, {"podName": "", "targetNode": "b"}, {"podName": "w", "targetNode": "b", "deadline": "x"}],
)
def test_what_the_schema_refuses_never_becomes_an_object(place: stage.Stage, spec: dict[str, Any]) -> None:
    body = {"apiVersion": "podferry.dev/v1alpha1", "kind": "ServiceMigration", "metadata": {"name": "x"}, "spec": spec}
    with pytest.raises(errors.Permanent) as refused:
        stage.run(place.api.create(kube.MIGRATIONS, place.namespace, body))
    assert refused.value.reason == "Invalid"


def test_kubectl_names_a_misspelt_field(place: stage.Stage) -> None:
    cluster = kubectl.Kubectl(place.plane.kubeconfig, place.namespace)
    with pytest.raises(kubectl.KubectlFailed, match=r'unknown field "spec\.freezeBugdet"'):
        cluster.apply_object(migrations.build("x", "web", "b", freezeBugdet="3s"))
    assert not cluster.all(migrations.KIND)
    cluster.apply_object(migrations.build("x", "web", "b", freezeBudget="3s"))
    assert place.end("x")["conditions"][-1]["reason"] == "PodNotFound"


def test_the_spec_cannot_be_changed(place: stage.Stage) -> None:
    place.migrate(pod="ghost")
    place.end()
    with pytest.raises(errors.Permanent, match="immutable"):
        stage.run(place.api.merge(kube.MIGRATIONS, place.namespace, "move", {"spec": {"podName": "other"}}))


def test_a_pod_moves_once_at_a_time_and_a_target_not_at_all(place: stage.Stage) -> None:
    place.pod()
    place.a.script.hold_at = {Step.SAVE}
    uid = place.migrate()
    place.a.wait_for(Step.SAVE)
    place.migrate("second")
    assert place.end("second")["conditions"][-1]["reason"] == "PodMigrating"
    place.migrate("third", pod=f"web-{uid[:5]}", node=place.a.node)
    third = {item["type"]: item for item in place.end("third")["conditions"]}
    assert "PodIsTarget" in third["Accepted"]["reason"] or "is the unfinished target" in third["Accepted"]["message"]
    place.a.release()
    assert place.end()["conditions"][-1]["reason"] == "Moved"


def test_a_node_that_lacks_something(place: stage.Stage) -> None:
    place.pod()
    place.b.script.capabilities = {"missing": [agent_pb2.Problem(reason="NoCriu", message="criu is not installed")]}
    place.migrate()
    assert "criu is not installed" in _untouched(place, place.end(), "Preflight", "NodeIncapable")


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"cpu_features": ["sse4_2"]}, "NodeIncapable", "lacks CPU features that the pod may use: avx"),
        ({"machine": "aarch64"}, "NodeIncapable", "is x86_64, node b"),
        ({"criu": "3.16"}, "NodeIncapable", "install the same there, or a newer one"),
        ({"memory_available_bytes": 20 << 20}, "NodeLacksMemory", "the images and the restored pod need 24MiB"),
    ],
)
def test_a_node_that_does_not_suit(place: stage.Stage, changes: dict[str, Any], reason: str, said: str) -> None:
    place.pod()
    place.b.script.capabilities = changes
    place.migrate()
    assert said in _untouched(place, place.end(), "Preflight", reason)


def test_what_the_pod_may_notice_is_said(place: stage.Stage) -> None:
    place.pod()
    place.b.script.capabilities = {"kernel": "5.15.0-1", "clock_unix_ns": time.time_ns() - 90 * 10**9}
    place.migrate(dryRun=True)
    place.end()
    message = place.condition("Preflight")["message"]
    assert "kernel 5.15.0-1 of node b" in message
    assert "1m3" in message or "1m2" in message
    assert "behind that of node a" in message


def test_a_volume_that_only_one_node_can_mount(place: stage.Stage) -> None:
    for name, mode in (("mine", "ReadWriteOnce"), ("ours", "ReadWriteMany")):
        spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}}
        stage.run(place.api.create(kube.CLAIMS, place.namespace, {"metadata": {"name": name}, "spec": spec}))
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("mine", "ours")]
    place.pod(volumes=volumes)
    place.migrate()
    message = _untouched(place, place.end(), "Accepted", "PodUnsupported")
    assert "claim mine (ReadWriteOnce)" in message
    assert "ours" not in message


def test_no_runtime_class(place: stage.Stage) -> None:
    place.pod()
    stage.run(place.api.delete(kube.RUNTIME_CLASSES, "", ids.RUNTIME_CLASS))
    try:
        place.migrate()
        assert "install podferry" in _untouched(place, place.end(), "Accepted", "NoRuntimeClass")
    finally:
        stage.run(place.api.create(kube.RUNTIME_CLASSES, "", stage.RUNTIME_CLASS))


def test_sockets_that_cannot_move(place: stage.Stage) -> None:
    place.pod()
    socket = agent_pb2.Unmovable(process="web", socket="mptcp ESTAB", reason="Mptcp", message="MPTCP does not move")
    place.a.script.inspection = agent_pb2.Inspection(containers=["main"], unmovable=[socket])
    place.migrate()
    status = place.end()
    assert "mptcp ESTAB" in _untouched(place, status, "Preflight", "UnmovableConnections")
    assert status["connections"]["unmovable"][0]["reason"] == "Mptcp"


def test_a_dry_run_reports_and_stops(place: stage.Stage) -> None:
    place.pod()
    place.migrate(dryRun=True)
    status = place.end()
    conditions = {item["type"]: item for item in status["conditions"]}
    assert (conditions["Succeeded"]["status"], conditions["Succeeded"]["reason"]) == ("True", "DryRun")
    assert "3 connections and 12MiB of memory can move" in conditions["Preflight"]["message"]
    assert set(conditions) == {"Accepted", "Preflight", "Succeeded"}
    assert set(place.a.calls) == {"Probe", "Inspect"}
    assert set(place.b.calls) == {"Probe"}
    assert status["step"] == "Preflight"


def test_an_agent_that_comes_late_is_awaited(place: stage.Stage) -> None:
    place.pod()
    place.b.stop()
    place.migrate()
    stage.until("it waits", lambda: place.condition("Preflight").get("reason") == "AgentUnreachable")
    assert place.condition("Preflight")["status"] == "Unknown"
    place.b.start()
    assert place.end()["conditions"][-1]["reason"] == "Moved"


def test_a_stranger_in_the_agents_place_is_not_believed(place: stage.Stage) -> None:
    place.pod()
    place.b.stop()
    stranger = place.impostor()
    stranger.start()
    try:
        place.migrate()
        stage.until("it waits", lambda: place.condition("Preflight").get("reason") == "AgentUnreachable")
        assert not stranger.calls
    finally:
        stranger.stop()
