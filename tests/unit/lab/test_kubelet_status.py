"""The status that the lab's kubelet publishes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lab.kubelet import observation, status

SECOND = 1_000_000_000
NOW = 1_767_323_045 * SECOND
BOX = observation.Sandbox("s", 0, True, 1, ("10.1.0.5",))


def pod(*names: str, policy: str = "Always", **before: Any) -> dict[str, Any]:
    containers = [{"name": name, "image": "app"} for name in names or ("main",)]
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"restartPolicy": policy, "containers": containers},
        "status": {"phase": "Pending", **before},
    }


def made(name: str, state: observation.State, attempt: int = 0, code: int = 0) -> observation.Container:
    times = (NOW, NOW, NOW + SECOND if state == "exited" else 0)
    return observation.Container(f"{name}-{attempt}", name, attempt, state, *times, exit_code=code)


def seen(*containers: observation.Container) -> observation.Observed:
    return observation.Observed((BOX,), tuple(sorted(containers, key=lambda one: -one.attempt)))


def of(what: dict[str, Any], observed: observation.Observed, **given: Any) -> dict[str, Any]:
    return status.of_pod(what, observed, status.Inputs(**{"now": NOW, "host_ip": "10.77.0.1", **given}))


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    (one,) = [one for one in found["conditions"] if one["type"] == kind]
    return dict(one)


def test_a_new_pod_is_pending_and_creating() -> None:
    found = of(pod(), observation.Observed())
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert found["startTime"] == "2026-01-02T03:04:05Z"
    assert "podIP" not in found
    assert condition(found, "Ready")["message"] == "containers with unready status: [main]"
    assert condition(found, "PodScheduled")["status"] == "True"


def test_a_running_pod_is_ready_with_its_address() -> None:
    found = of(pod(), seen(made("main", "running", 2)))
    assert found["phase"] == "Running"
    assert (found["podIP"], found["podIPs"], found["hostIP"]) == ("10.1.0.5", [{"ip": "10.1.0.5"}], "10.77.0.1")
    (one,) = found["containerStatuses"]
    assert (one["ready"], one["restartCount"], one["containerID"]) == (True, 2, "containerd://main-2")
    assert condition(found, "Ready")["status"] == "True"


def test_one_waiting_container_keeps_the_pod_pending() -> None:
    found = of(pod("a", "b"), seen(made("a", "running")))
    assert found["phase"] == "Pending"
    assert condition(found, "ContainersReady")["message"] == "containers with unready status: [b]"


@pytest.mark.parametrize(
    ("policy", "codes", "phase"),
    [
        ("Always", (0, 1), "Running"),
        ("OnFailure", (0, 0), "Succeeded"),
        ("OnFailure", (0, 1), "Running"),
        ("Never", (0, 0), "Succeeded"),
        ("Never", (0, 1), "Failed"),
    ],
)
def test_the_phase_of_a_pod_whose_containers_ended(policy: str, codes: tuple[int, int], phase: str) -> None:
    ends = [made(name, "exited", code=code) for name, code in zip("ab", codes, strict=True)]
    assert of(pod("a", "b", policy=policy), seen(*ends))["phase"] == phase


def test_a_deleted_pod_ends_whatever_its_policy() -> None:
    found = of(pod(), seen(made("main", "exited", code=137)), ended=True)
    assert found["phase"] == "Failed"
    assert found["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


def test_a_finished_phase_is_never_taken_back() -> None:
    assert of(pod(phase="Succeeded"), seen(made("main", "running")))["phase"] == "Succeeded"


def test_what_ended_before_stands_in_last_state() -> None:
    found = of(pod(), seen(made("main", "running", 1), made("main", "exited", 0, code=3)))
    (one,) = found["containerStatuses"]
    assert one["lastState"]["terminated"]["exitCode"] == 3
    assert one["lastState"]["terminated"]["reason"] == "Error"


def test_back_off_shows_as_waiting_with_the_end_as_last_state() -> None:
    trouble = {"main": ("CrashLoopBackOff", "back-off 10s")}
    found = of(pod(phase="Running"), seen(made("main", "exited", code=1)), trouble=trouble)
    (one,) = found["containerStatuses"]
    assert one["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert one["lastState"]["terminated"]["exitCode"] == 1
    assert found["phase"] == "Running"


def test_probes_gate_readiness() -> None:
    running = made("main", "running")
    assert condition(of(pod(), seen(running), ready={running.id: False}), "Ready")["status"] == "False"
    assert condition(of(pod(), seen(running), ready={running.id: True}), "Ready")["status"] == "True"
    unstarted = of(pod(), seen(running), ready={running.id: True}, started={running.id: False})
    assert unstarted["containerStatuses"][0]["started"] is False
    assert condition(unstarted, "Ready")["status"] == "False"


def test_readiness_gates_need_their_conditions() -> None:
    what = pod()
    what["spec"]["readinessGates"] = [{"conditionType": "example.org/ok"}]
    assert condition(of(what, seen(made("main", "running"))), "Ready")["reason"] == "ReadinessGatesNotReady"
    what["status"]["conditions"] = [{"type": "example.org/ok", "status": "True"}]
    found = of(what, seen(made("main", "running")))
    assert condition(found, "Ready")["status"] == "True"
    assert condition(found, "example.org/ok")["status"] == "True", "conditions of others stay"


def test_transition_times_stay_while_nothing_changes() -> None:
    what = pod()
    what["status"] |= of(what, seen(made("main", "running")))
    assert status.difference(what, of(what, seen(made("main", "running")), now=NOW + 60 * SECOND)) == {}
    later = of(what, seen(made("main", "exited", code=1)), now=NOW + 60 * SECOND)
    assert condition(later, "Ready")["lastTransitionTime"] == "2026-01-02T03:05:05Z"
    assert condition(later, "Initialized")["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    assert set(status.difference(what, later)) == {"conditions", "containerStatuses"}


def test_the_address_stays_when_the_sandbox_is_gone() -> None:
    what = pod(podIPs=[{"ip": "10.1.0.5"}])
    assert of(what, observation.Observed(), ended=True)["podIP"] == "10.1.0.5"


def test_a_refused_pod_fails_and_says_why() -> None:
    found = status.refused(pod(), "spec.initContainers", NOW)
    assert found["phase"] == "Failed"
    assert "spec.initContainers" in found["message"]
    assert status.difference(pod(), found)["reason"] == "Unsupported"
