"""A live pod moves between two nodes by `kubectl apply` and no client can tell: real kernels, CRIU, containerd, TCP."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e.conftest import Stage
from tests.lab import lab as labs
from tests.lab.workloads import results
from tests.support import clients, migrations, pods

from podferry.steps import Step

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

BUDGET = "120s"
"""Emulated, on a busy machine: a bound on hanging, no measure of anything."""


def go(stage: Stage, pod: str, node: str, **spec: Any) -> migrations.Migration:
    """Move and expect it to succeed."""
    moved = stage.site.migrate(pod, node, seconds=600, freezeBudget=BUDGET, **spec)
    assert moved.succeeded, moved.outcome
    return moved


def arrived(stage: Stage, moved: migrations.Migration, node: str, *containers: str) -> None:
    """Check in the API and in every node's containerd that the pod runs on `node` and nowhere else."""
    cluster = stage.site.cluster
    found = cluster.get("pod", moved.target_pod)
    assert found["spec"]["nodeName"] == node
    assert pods.is_ready(found)
    assert [status["restartCount"] for status in found["status"]["containerStatuses"]] == [0] * len(containers)
    for container in containers:
        assert stage.site.running_on(container) == [node]


def clean(client: clients.Client) -> results.Result:
    """End a client and expect that it has noticed nothing."""
    result = client.finish(300)
    assert result.clean, result.summary()
    assert result.compared > 0
    return result


@pytest.mark.parametrize(("connections", "pace"), [(1, 0.02), (100, 1.0)])
def test_echo_with_traffic_in_both_directions(stage: Stage, connections: int, pace: float) -> None:
    stage.run(pods.pod("echo", "node-a", pods.sample()))
    before = stage.site.cluster.get("pod", "echo")
    with stage.site.client("echo", stage.site.address("echo"), connections=connections, pace=pace) as client:
        client.wait_connected(120)
        moved = go(stage, "echo", "node-b")
        arrived(stage, moved, "node-b", pods.SAMPLE)
        result = clean(client)
    assert len(result.connections) == connections
    assert moved.kept >= connections
    assert moved.closed == 0
    assert not stage.site.cluster.exists("pod", "echo")
    after = stage.site.cluster.get("pod", moved.target_pod)
    assert after["status"]["podIP"] == before["status"]["podIP"]
    ours = {connection.local for connection in result.connections}
    assert {one.fate for one in moved.audit if one.peer in ours} == {"kept"}
    assert set(moved.timings) >= set(Step) - {Step.DONE}
    assert moved.freeze_seconds is not None
    assert moved.dead_ms is not None
    assert 0 < moved.dead_ms / 1000 < moved.freeze_seconds


@pytest.mark.parametrize("mode", ["sink", "source", "duplex"])
def test_bulk_at_full_speed(stage: Stage, mode: str) -> None:
    stage.run(pods.pod("bulk", "node-a", pods.sample()))
    with stage.site.client("bulk", stage.site.address("bulk"), mode=mode, connections=2) as client:
        client.wait_connected(120)
        moved = go(stage, "bulk", "node-b")
        clean(client)
    arrived(stage, moved, "node-b", pods.SAMPLE)
    assert moved.kept >= 2


def test_redis_with_pipelined_clients_and_data_in_memory(stage: Stage) -> None:
    stage.run(pods.pod("redis", "node-a", pods.redis()))
    address = stage.site.address("redis", 6379)
    with stage.site.client("redis", address, mode="redis", connections=4, pace=0.05) as client:
        client.wait_connected(120)
        moved = go(stage, "redis", "node-b")
        clean(client)
    arrived(stage, moved, "node-b", pods.REDIS)


def test_there_and_back(stage: Stage) -> None:
    stage.run(pods.pod("round", "node-a", pods.sample()))
    with stage.site.client("round", stage.site.address("round"), connections=5, pace=0.1) as client:
        client.wait_connected(120)
        there = go(stage, "round", "node-b")
        arrived(stage, there, "node-b", pods.SAMPLE)
        back = go(stage, there.target_pod, "node-a")
        arrived(stage, back, "node-a", pods.SAMPLE)
        clean(client)
    assert (there.kept, back.kept) >= (5, 5)


def test_two_containers_one_hardened_keep_their_connections_and_their_host_name(stage: Stage) -> None:
    stage.run(pods.pod("pair", "node-a", pods.hardened(pods.sample()), pods.redis()))
    with (
        stage.site.client("one", stage.site.address("pair"), connections=3, pace=0.1) as one,
        stage.site.client("two", stage.site.address("pair", 6379), mode="redis", connections=2, pace=0.1) as two,
    ):
        one.wait_connected(120)
        two.wait_connected(120)
        moved = go(stage, "pair", "node-b")
        clean(one)
        clean(two)
    arrived(stage, moved, "node-b", pods.SAMPLE, pods.REDIS)
    assert stage.site.cluster.get("pod", moved.target_pod)["spec"]["hostname"] == "pair"


def test_the_operator_may_die_in_the_middle(stage: Stage, lab: labs.Lab) -> None:
    stage.run(pods.pod("orphan", "node-a", pods.sample()))
    killed: list[Step] = []

    def kill(seen: migrations.Migration) -> None:
        if seen.step in (Step.FREEZE, Step.SAVE) and not killed:
            killed.append(seen.step)
            lab.stop_operator(kill=True)
            lab.start_operator()

    with stage.site.client("orphan", stage.site.address("orphan"), connections=3, pace=0.1) as client:
        client.wait_connected(120)
        order = migrations.build("orphan-away", "orphan", "node-b", freezeBudget=BUDGET)
        stage.site.cluster.apply_object(order)
        moved = migrations.follow(stage.site.cluster, "orphan-away", 600, kill)
        assert killed
        assert moved.succeeded, moved.outcome
        clean(client)
    arrived(stage, moved, "node-b", pods.SAMPLE)


def test_new_connections_reach_the_pod_through_its_service_after_the_move(stage: Stage) -> None:
    stage.run(pods.service("web", 5000), pods.pod("web", "node-a", pods.sample()))
    moved = go(stage, "web", "node-b")
    with stage.site.client("web", stage.site.address(moved.target_pod), connections=2, pace=0.1) as client:
        client.wait_connected(120)
        clean(client)
    slices = stage.site.cluster.all("endpointslices", "kubernetes.io/service-name=web")
    ready = [endpoint for one in slices for endpoint in one["endpoints"] if endpoint["conditions"]["ready"]]
    assert [endpoint["targetRef"]["name"] for endpoint in ready] == [moved.target_pod]
    assert [endpoint["nodeName"] for endpoint in ready] == ["node-b"]
