"""The operator moves a pod: against a real API, real gRPC, fake agents."""

from __future__ import annotations

import pytest
from tests.support import control_plane, stage

from podferry import ids
from podferry_operator.clients import kube


def test_all_of_this_runs_on_a_real_control_plane_too() -> None:
    if why := control_plane.missing():
        pytest.skip(f"only the embedded API: {why}")


def test_a_pod_moves(place: stage.Stage) -> None:
    source = place.pod()
    uid = place.migrate()
    status = place.end()
    assert {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]} == {
        "Accepted": ("True", "Valid"),
        "Preflight": ("True", "Movable"),
        "TargetReady": ("True", "Waiting"),
        "Committed": ("True", "Committed"),
        "Succeeded": ("True", "Moved"),
    }
    assert status["step"] == "Done"
    target = place.running(f"web-{uid[:5]}")
    assert target is not None
    assert place.get(kube.PODS, "web") is None
    assert target["spec"]["nodeName"] == place.b.node
    assert target["spec"]["runtimeClassName"] == ids.RUNTIME_CLASS
    assert status["source"]["podUID"] == source["metadata"]["uid"]
    assert status["target"]["podUID"] == target["metadata"]["uid"]
    assert status["connections"]["kept"] == 3
    assert status["display"]["dead"].endswith("s")
    assert [item["step"] for item in status["timings"]][:4] == ["Requested", "Preflight", "Prepare", "Freeze"]
    assert all("seconds" in item for item in status["timings"])
    assert place.a.entries == place.b.entries == {}
    assert "Freeze" in place.events("ServiceMigration", "move")
    assert "Freeze" in place.events("Pod", "web")
    assert "Moved" in place.events("Pod", target["metadata"]["name"])
