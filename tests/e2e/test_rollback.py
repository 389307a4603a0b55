"""What fails before Commit leaves the pod on its source as it was, every connection alive and nothing left over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from tests.e2e.conftest import Stage
from tests.lab import lab as labs
from tests.support import migrations, pods

from podferry.faults import FaultPoint
from podferry.steps import Step

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

LEFTOVERS = """
for netns in "" $(ls /run/netns 2>/dev/null); do
  ${netns:+ip netns exec $netns} nft list tables | grep podferry
done
ls /run/podferry/images
for freeze in $(find /sys/fs/cgroup/kubepods* -name cgroup.freeze); do grep -l 1 $freeze; done
true
"""
"""Prints nftables tables, image sets and frozen cgroups of a node; nothing when there are none."""


@pytest.fixture
def armed(lab: labs.Lab, stage: Stage) -> Iterator[Callable[[str, FaultPoint, str], None]]:
    """Arm a fault point of a node's agent; agents are ordinary again afterwards."""
    touched: set[str] = set()

    def arm(node: str, point: FaultPoint, action: str) -> None:
        touched.add(node)
        lab.nodes[node].service("agent").restart(env={"PODFERRY_FAULT": f"{point}={action}"})
        lab.nodes[node].service("agent").wait_ready()

    yield arm
    for node in touched:
        lab.nodes[node].service("agent").restart()
        lab.nodes[node].service("agent").wait_ready()


def unharmed(stage: Stage, lab: labs.Lab, attempt: Callable[[], migrations.Migration]) -> None:
    """Run an attempt that must fail under live clients; check that nobody noticed and that nothing is left."""
    stage.run(pods.pod("stay", "node-a", pods.sample()))
    with stage.site.client("stay", stage.site.address("stay"), connections=5, pace=0.1) as client:
        client.wait_connected(120)
        failed = attempt()
        assert failed.succeeded is False
        glance = client.glance()
        result = client.finish(300)
    assert glance is not None
    assert result.clean, result.summary()
    found = stage.site.cluster.get("pod", "stay")
    assert found["spec"]["nodeName"] == "node-a"
    assert found["status"]["containerStatuses"][0]["restartCount"] == 0
    assert stage.site.running_on(pods.SAMPLE) == ["node-a"]
    assert [one["metadata"]["name"] for one in stage.site.cluster.all("pods", "app=stay")] == ["stay"]
    nothing_left(lab)


def nothing_left(lab: labs.Lab) -> None:
    """Wait until no node has anything of a migration; a killed agent cleans up when it is back."""
    deadline = time.monotonic() + 120
    while found := {node.name: left for node in lab.nodes.values() if (left := node.run("sh", "-c", LEFTOVERS).out)}:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


def attempt(stage: Stage, seen: Callable[[migrations.Migration], None] | None = None) -> migrations.Migration:
    """Order a migration of the pod and follow it to its end."""
    order = migrations.build("stay-away", "stay", "node-b", freezeBudget="120s")
    stage.site.cluster.apply_object(order)
    return migrations.follow(stage.site.cluster, "stay-away", 600, seen)


@pytest.mark.parametrize("point", [FaultPoint.TARGET_RESTORING, FaultPoint.TARGET_RESTORED, FaultPoint.TARGET_REBUILT])
def test_the_target_agent_is_killed(
    stage: Stage, lab: labs.Lab, armed: Callable[[str, FaultPoint, str], None], point: FaultPoint
) -> None:
    armed("node-b", point, "kill")
    unharmed(stage, lab, lambda: attempt(stage))


@pytest.mark.parametrize(
    ("point", "step"), [(FaultPoint.TARGET_RESTORING, Step.RESTORE), (FaultPoint.TARGET_REBUILT, Step.CUT)]
)
def test_the_link_to_the_target_is_cut(
    stage: Stage, lab: labs.Lab, armed: Callable[[str, FaultPoint, str], None], point: FaultPoint, step: Step
) -> None:
    armed("node-b", point, "stall")
    cut: list[Step] = []

    def watch(seen: migrations.Migration) -> None:
        if seen.step is step and not cut:
            cut.append(step)
            lab.cut("node-b")
        condition = seen.conditions.get("Succeeded")
        if cut and condition is not None and condition.reason != "Migrating":  # it is being undone
            lab.restore("node-b")

    try:
        unharmed(stage, lab, lambda: attempt(stage, watch))
    finally:
        lab.restore("node-b")
    assert cut


def test_the_source_agent_is_killed_in_the_cut(
    stage: Stage, lab: labs.Lab, armed: Callable[[str, FaultPoint, str], None]
) -> None:
    armed("node-a", FaultPoint.CUT_LOCKED, "kill")
    unharmed(stage, lab, lambda: attempt(stage))
