"""What the lab's kubelet decides: the plan, the back-off, the probes' verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lab.kubelet import backoff, observation, plan, probe


def pod(*names: str, policy: str = "Always") -> dict[str, Any]:
    containers = [{"name": name, "image": "app"} for name in names or ("main",)]
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"restartPolicy": policy, "containers": containers},
    }


def box(attempt: int = 0, *, ready: bool = True, ip: str = "10.1.0.5") -> observation.Sandbox:
    return observation.Sandbox(f"s{attempt}", attempt, ready, attempt, (ip,) if ip else ())


def made(name: str, state: observation.State, attempt: int = 0, code: int = 0) -> observation.Container:
    return observation.Container(f"{name}{attempt}", name, attempt, state, attempt, exit_code=code)


def seen(
    *containers: observation.Container, sandboxes: tuple[observation.Sandbox, ...] = (box(),)
) -> observation.Observed:
    return observation.Observed(sandboxes, tuple(sorted(containers, key=lambda one: -one.attempt)))


def test_a_new_pod_gets_a_sandbox_and_its_containers_in_order() -> None:
    found = plan.plan(pod("b", "a"), seen(sandboxes=()), ())
    assert found.create_sandbox
    assert found.attempt == 0
    assert found.start == ("b", "a")


def test_a_pod_that_runs_needs_nothing() -> None:
    assert plan.plan(pod(), seen(made("main", "running")), ()) == plan.Plan()


def test_only_what_does_not_run_is_started() -> None:
    found = plan.plan(pod("a", "b"), seen(made("a", "running"), made("b", "exited", code=0)), ())
    assert found == plan.Plan(start=("b",))


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 1, True), ("OnFailure", 0, False), ("Never", 1, False)],
)
def test_the_restart_policy_decides_what_comes_back(policy: str, code: int, again: bool) -> None:
    found = plan.plan(pod(policy=policy), seen(made("main", "exited", code=code)), ())
    assert found == (plan.Plan(start=("main",)) if again else plan.Plan(stop=True))


def test_a_container_that_was_created_and_never_started_is_made_anew() -> None:
    assert plan.plan(pod(policy="Never"), seen(made("main", "created")), ()).start == ("main",)


def test_an_unhealthy_container_is_killed_and_comes_back() -> None:
    running = made("main", "running")
    assert plan.plan(pod(), seen(running), {running.id}) == plan.Plan(kill=(running,), start=("main",))


def test_an_unhealthy_container_that_may_not_restart_ends_the_pod() -> None:
    running = made("main", "running")
    assert plan.plan(pod(policy="Never"), seen(running), {running.id}) == plan.Plan(stop=True)


@pytest.mark.parametrize("boxes", [(box(ready=False),), (box(ip=""),), (box(1), box(0))])
def test_a_pod_without_its_one_sandbox_starts_over(boxes: tuple[observation.Sandbox, ...]) -> None:
    found = plan.plan(pod(), seen(made("main", "running"), sandboxes=boxes), ())
    assert found == plan.Plan(stop=True, create_sandbox=True, attempt=boxes[0].attempt + 1, start=("main",))


def test_a_pod_that_did_its_work_does_not_start_over() -> None:
    gone = (box(ready=False),)
    done = seen(made("main", "exited"), sandboxes=gone)
    assert plan.plan(pod(policy="Never"), done, ()) == plan.Plan(stop=True)
    assert not plan.plan(pod(policy="OnFailure"), done, ()).create_sandbox


class Now:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_back_off_doubles_from_the_second_restart_on() -> None:
    now = Now()
    delays = backoff.Backoff(now)
    met = []
    for _ in range(7):
        ended = now.seconds
        met.append(delays.remaining("c", ended))
        now.seconds += met[-1]
        delays.next("c", ended)
    assert met == [0, 10, 20, 40, 80, 160, 300]


def test_back_off_counts_from_the_end() -> None:
    now = Now()
    delays = backoff.Backoff(now)
    delays.next("c", now.seconds)
    now.seconds += 4
    assert delays.remaining("c", now.seconds - 4) == 6
    assert delays.remaining("other", now.seconds) == 0


def test_what_ran_for_long_is_forgiven() -> None:
    now = Now()
    delays = backoff.Backoff(now)
    delays.next("c", now.seconds)
    now.seconds += 601
    assert delays.remaining("c", now.seconds) == 0


def spec(**said: Any) -> dict[str, Any]:
    return {"name": "main", "ports": [{"name": "web", "containerPort": 8080}], **said}


def test_probes_have_the_usual_defaults() -> None:
    (found,) = probe.of_container(spec(readinessProbe={"tcpSocket": {"port": "web"}}))
    assert (found.delay, found.period, found.timeout, found.successes, found.failures) == (0, 10, 1, 1, 3)
    assert probe.port_number(spec(), "web") == 8080
    assert probe.port_number(spec(), 9) == 9
    with pytest.raises(ValueError, match="no port named"):
        probe.port_number(spec(), "other")


def test_a_verdict_takes_as_many_answers_in_a_row_as_the_threshold() -> None:
    (readiness,) = probe.of_container(spec(readinessProbe={"successThreshold": 2, "failureThreshold": 2}))
    tally = probe.Tally.fresh(readiness)
    assert [tally.add(answer) for answer in (True, False, True, True, False, True, False, False)] == [
        False, False, False, True, True, True, True, False,
    ]  # fmt: skip


def test_liveness_begins_alive_and_fails_for_good() -> None:
    (liveness,) = probe.of_container(spec(livenessProbe={"failureThreshold": 2}))
    tally = probe.Tally.fresh(liveness)
    assert tally.verdict
    tally.add(False)
    assert not tally.failed
    tally.add(False)
    assert tally.failed
