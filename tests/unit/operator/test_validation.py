"""What stands against a migration before an agent is asked, and what it is called."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.operator_objects import migration, node, pod, seen

from podferry.wire import agent_pb2
from podferry_operator.api.reasons import Reason
from podferry_operator.domain import preflight, validation
from podferry_operator.domain.observation import Preflight

OWNER = {"kind": "ReplicaSet", "name": "web-1", "uid": "x", "controller": True}
WAITING = {"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}

CASES: list[tuple[str, dict[str, Any], Reason, str]] = [
    ("no pod", {"source_pod": None}, Reason.POD_NOT_FOUND, "spec.podName: pod default/web does not exist"),
    ("pending", {"source_pod": pod(status={"phase": "Pending"})}, Reason.POD_NOT_RUNNING, "spec.podName"),
    ("crashed", {"source_pod": pod(status={"containerStatuses": [WAITING]})}, Reason.POD_NOT_RUNNING, "container main"),
    ("ending", {"source_pod": pod(metadata={"deletionTimestamp": "now"})}, Reason.POD_TERMINATING, "spec.podName"),
    (
        "owned",
        {"source_pod": pod(metadata={"ownerReferences": [OWNER]})},
        Reason.POD_HAS_CONTROLLER,
        "ReplicaSet web-1",
    ),
    ("host network", {"source_pod": pod(spec={"hostNetwork": True})}, Reason.POD_UNSUPPORTED, "hostNetwork"),
    (
        "sidecar",
        {"source_pod": pod(spec={"initContainers": [{"name": "x", "restartPolicy": "Always"}]})},
        Reason.POD_UNSUPPORTED,
        "sidecar",
    ),
    ("user namespace", {"source_pod": pod(spec={"hostUsers": False})}, Reason.POD_UNSUPPORTED, "user namespace"),
    (
        "shared processes",
        {"source_pod": pod(spec={"shareProcessNamespace": True})},
        Reason.POD_UNSUPPORTED,
        "shareProcessNamespace",
    ),
    ("no runtime class", {"runtime_class": None}, Reason.NO_RUNTIME_CLASS, "RuntimeClass podferry"),
    ("no node", {"target_node": None}, Reason.NODE_NOT_FOUND, "spec.targetNode: node b does not exist"),
    ("node down", {"target_node": node(ready="Unknown")}, Reason.NODE_NOT_READY, "kubelet says so"),
    ("cordoned", {"target_node": node(unschedulable=True)}, Reason.NODE_NOT_READY, "cordoned"),
    ("same node", {"source_pod": pod(node="b")}, Reason.SAME_NODE, "spec.targetNode"),
    ("zero", {"order": migration(freezeBudget="0s")}, Reason.INVALID_SPEC, "spec.freezeBudget: must be above zero"),
    ("no duration", {"order": migration(deadline="soon")}, Reason.INVALID_SPEC, "spec.deadline"),
    ("no ttl", {"order": migration(ttlAfterFinished="0s")}, Reason.INVALID_SPEC, "spec.ttlAfterFinished"),
]


def _rival(source: str, target: str) -> Any:
    return migration(
        "bbbbb000-0000-4000-8000-000000000002",
        {"source": {"podUID": source}, "target": {"podUID": target}},
    )


@pytest.mark.parametrize(("parts", "reason", "part"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bad_order_is_refused_by_name(parts: dict[str, Any], reason: Reason, part: str) -> None:
    findings = validation.check(seen(**parts))
    assert [finding.reason for finding in findings] == [reason]
    assert part in findings[0].message


def test_a_pod_moves_once_at_a_time() -> None:
    moving = validation.check(seen(rivals=(_rival("uid-of-web", "other"),)))
    assert [finding.reason for finding in moving] == [Reason.POD_MIGRATING]
    arriving = validation.check(seen(rivals=(_rival("other", "uid-of-web"),)))
    assert [finding.reason for finding in arriving] == [Reason.POD_IS_TARGET]
    assert not validation.check(seen(rivals=(_rival("x", "y"),)))


def test_a_good_order_is_accepted() -> None:
    assert not validation.check(seen())


def test_everything_wrong_is_said_at_once() -> None:
    findings = validation.check(seen(migration(deadline="0s"), source_pod=None, target_node=None))
    assert [finding.reason for finding in findings] == [
        Reason.INVALID_SPEC,
        Reason.POD_NOT_FOUND,
        Reason.NODE_NOT_FOUND,
    ]


def _capable(node: str, **changes: Any) -> agent_pb2.Capabilities:
    fields: dict[str, Any] = {
        "backends": ["repair"],
        "cpu_features": ["avx"],
        "criu": "3.17.1",
        "memory_available_bytes": 1 << 30,
    }
    return agent_pb2.Capabilities(node=node, **(fields | changes))


def _answers(**changes: Any) -> Preflight:
    parts: dict[str, Any] = {
        "source": _capable("a"),
        "target": _capable("b", cpu_features=["avx", "avx2"]),
        "inspection": agent_pb2.Inspection(connections=2, memory_bytes=3 << 20),
    }
    return Preflight(**(parts | changes))


def test_preflight_names_what_a_node_lacks() -> None:
    problem = agent_pb2.Problem(reason="NoCriu", message="criu is not installed")
    answers = _answers(target=_capable("b", missing=[problem]))
    (finding,) = preflight.check(answers, migration())
    assert finding.reason == Reason.NODE_INCAPABLE
    assert "node b: NoCriu: criu is not installed" in finding.message


def test_preflight_compares_processors() -> None:
    answers = _answers(target=_capable("b", cpu_features=["sse"]))
    (finding,) = preflight.check(answers, migration())
    assert finding.message.endswith("avx")


@pytest.mark.parametrize(
    ("source", "target", "refused"),
    [("3.17.1", "3.17.1", False), ("3.17.1", "4.1", False), ("4.1.1", "3.17.1", True), ("4.1", "4.1.1", False)],
)
def test_images_are_read_by_the_same_criu_or_a_newer_one(source: str, target: str, refused: bool) -> None:
    answers = _answers(source=_capable("a", criu=source), target=_capable("b", criu=target))
    assert bool(preflight.check(answers, migration())) == refused


def test_both_nodes_need_room_for_the_images() -> None:
    found = agent_pb2.Inspection(memory_bytes=100 << 20)
    assert not preflight.check(_answers(inspection=found), migration())
    small = _answers(inspection=found, target=_capable("b", memory_available_bytes=150 << 20))
    (finding,) = preflight.check(small, migration())
    assert finding.reason == Reason.NODE_LACKS_MEMORY
    assert "150MiB of memory free; the images and the restored pod need 200MiB" in finding.message


def test_versions_compare_by_their_numbers() -> None:
    assert preflight.version("6.1.0-13-cloud-amd64") == (6, 1, 0)
    assert preflight.version("6.10") > preflight.version("6.9.7")
    assert preflight.version("") == ()


def test_unmovable_sockets_stop_a_migration_unless_they_may_be_closed() -> None:
    socket = agent_pb2.Unmovable(process="web", socket="udp 0.0.0.0:53", message="UDP does not move yet")
    answers = _answers(inspection=agent_pb2.Inspection(unmovable=[socket] * 7))
    (finding,) = preflight.check(answers, migration())
    assert finding.reason == Reason.UNMOVABLE_CONNECTIONS
    assert "and 2 more" in finding.message
    closing = migration(connections={"onUnmovable": "Close"})
    assert not preflight.check(answers, closing)
    assert "7 sockets will be closed" in preflight.summary(answers, closing, pod())


def test_a_liveness_probe_bounds_the_freeze() -> None:
    probe = {"name": "main", "livenessProbe": {"periodSeconds": 5, "failureThreshold": 3, "timeoutSeconds": 2}}
    watched = pod(spec={"containers": [probe]})
    assert preflight.freeze_budget(migration(), watched) == 12
    assert preflight.freeze_budget(migration(freezeBudget="4s"), watched) == 4
    assert preflight.freeze_budget(migration(), pod()) == 30
    assert "lowered to 12s" in preflight.summary(_answers(), migration(), watched)
