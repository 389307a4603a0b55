"""The target pod: the same pod, made anew elsewhere."""

from __future__ import annotations

import json

from tests.support.operator_objects import UID, pod

from podferry import ids
from podferry_operator.domain import target_pod

NEXT = "bbbbb000-0000-4000-8000-000000000002"


def test_names_do_not_grow_along_a_chain() -> None:
    first = target_pod.build(pod(), UID, "b")
    assert first["metadata"]["name"] == "web-aaaaa"
    second = target_pod.build(first | {"status": {}}, NEXT, "a")
    assert second["metadata"]["name"] == "web-bbbbb"
    assert second["spec"]["hostname"] == "web"
    assert second["metadata"]["labels"] == {"app": "web", target_pod.MIGRATED_BY_LABEL: NEXT}


def test_a_name_that_only_looks_moved_is_kept() -> None:
    assert target_pod.name(pod("web-aaaaa"), NEXT) == "web-aaaaa-bbbbb"


def test_long_names_are_cut() -> None:
    name = target_pod.name(pod("x" * 246 + "-" + "y" * 6), UID)
    assert len(name) <= 253
    assert name.endswith("x-aaaaa")


def test_the_pod_is_pinned_held_and_marked() -> None:
    built = target_pod.build(pod(), UID, "b")
    assert built["spec"]["nodeName"] == "b"
    assert built["spec"]["runtimeClassName"] == ids.RUNTIME_CLASS
    annotations = built["metadata"]["annotations"]
    assert annotations[ids.MIGRATION_ANNOTATION] == UID
    assert annotations[ids.HOLD_ANNOTATION] == "true"
    assert json.loads(annotations["cni.projectcalico.org/ipAddrs"]) == ["10.0.0.1"]
    assert "ownerReferences" not in built["metadata"]
    assert target_pod.ours(built, UID)
    assert not target_pod.ours(built, NEXT)


def test_the_spec_is_copied_without_what_was_put_into_it() -> None:
    mounts = [
        {"name": "kube-api-access-x7x2p", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
        {"name": "data", "mountPath": "/data"},
    ]
    source = pod(
        metadata={
            "annotations": {
                "team": "blue",
                "cni.projectcalico.org/podIP": "10.0.0.1/32",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "podferry.dev/migration": NEXT,
            }
        },
        spec={
            "containers": [
                {"name": "main", "image": "i", "volumeMounts": mounts, "resources": {"limits": {"cpu": "1"}}}
            ],
            "initContainers": [{"name": "once"}],
            "volumes": [{"name": "kube-api-access-x7x2p", "projected": {}}, {"name": "data", "emptyDir": {}}],
            "priority": 0,
            "preemptionPolicy": "PreemptLowerPriority",
            "overhead": {"cpu": "1m"},
            "serviceAccountName": "web",
            "serviceAccount": "web",
            "aFieldOfTomorrow": {"kept": True},
        },
    )
    built = target_pod.build(source, UID, "b")
    assert built["spec"] == {
        "containers": [
            {"name": "main", "image": "i", "volumeMounts": [mounts[1]], "resources": {"limits": {"cpu": "1"}}}
        ],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "serviceAccountName": "web",
        "aFieldOfTomorrow": {"kept": True},
        "nodeName": "b",
        "runtimeClassName": ids.RUNTIME_CLASS,
        "hostname": "web",
    }
    assert set(built["metadata"]["annotations"]) == {
        "team",
        ids.MIGRATION_ANNOTATION,
        ids.HOLD_ANNOTATION,
        "cni.projectcalico.org/ipAddrs",
    }
    assert source["spec"]["nodeName"] == "a"


def test_a_host_name_that_the_api_refuses_is_left_out() -> None:
    assert "hostname" not in target_pod.build(pod("web.v1"), UID, "b")["spec"]
    assert target_pod.build(pod(spec={"hostname": "own"}), UID, "b")["spec"]["hostname"] == "own"
