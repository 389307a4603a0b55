"""The helpers that act from outside, with kubectl, the lab's Kubernetes API and real client processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab import demo
from tests.lab.workloads import server
from tests.support import clients, kubectl, migrations

from podferry import steps

ROOT = Path(__file__).parents[3]
DEMO = Path(demo.__file__).parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kubectl.Kubectl]:
    kubeconfig = tmp_path_factory.mktemp("api") / "kubeconfig"
    command = [
        sys.executable,
        "-m",
        "tests.lab.kubeapi",
        "--listen",
        "127.0.0.1:0",
        "--write-kubeconfig",
        str(kubeconfig),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not kubeconfig.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline, "the API does not start"
            time.sleep(0.05)
        found = kubectl.Kubectl(kubeconfig)
        found.apply(ROOT / "crds/podferry.dev_servicemigrations.yaml")
        found.wait("condition=Established", "crd/servicemigrations.podferry.dev", seconds=20)
        yield found
        process.terminate()


def publish(cluster: kubectl.Kubectl, name: str, step: str, succeeded: str) -> None:
    condition = {"type": "Succeeded", "status": succeeded, "reason": "Test", "message": "as told"}
    status = {"step": step, "conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    patch = json.dumps({"status": status})
    cluster.run("patch", "smig", name, "--subresource=status", "--type=merge", "-p", patch)


def test_every_manifest_of_the_demo_applies(cluster: kubectl.Kubectl) -> None:
    cluster.apply(DEMO / "runtimeclass.yaml", DEMO / "sample.yaml")
    pod = cluster.get("pod", "sample")
    assert pod["spec"]["nodeName"] == "node-a"
    assert [one["metadata"]["name"] for one in cluster.all("services", "")] == ["sample"]
    cluster.apply(DEMO / "migration.yaml")
    assert cluster.get("smig", "sample-to-node-b")["spec"]["freezeBudget"] == "30s"
    cluster.delete("smig", "sample-to-node-b")
    assert not cluster.exists("smig", "sample-to-node-b")


def test_a_migration_is_followed_to_its_end(cluster: kubectl.Kubectl) -> None:
    cluster.apply_object(migrations.build("one", "web", "b", dryRun=True))
    seen: list[migrations.Migration] = []
    changes = [("Preflight", "Unknown"), ("Save", "Unknown"), ("Done", "True")]

    def watched(now: migrations.Migration) -> None:
        seen.append(now)
        if changes:
            step, succeeded = changes.pop(0)
            threading.Thread(target=publish, args=(cluster, "one", step, succeeded)).start()

    last = migrations.follow(cluster, "one", 30, watched)
    assert [one.step for one in seen] == [None, steps.Step.PREFLIGHT, steps.Step.SAVE, steps.Step.DONE]
    assert last.succeeded is True
    assert last.outcome == "Test: as told"


def test_a_migration_that_does_not_end_is_said_so(cluster: kubectl.Kubectl) -> None:
    cluster.apply_object(migrations.build("two", "web", "b"))
    publish(cluster, "two", "Save", "Unknown")
    with pytest.raises(AssertionError, match="two has not ended after 1 s; it is in Save: Test: as told"):
        migrations.follow(cluster, "two", 1)


def test_a_command_that_fails_says_why(cluster: kubectl.Kubectl) -> None:
    with pytest.raises(kubectl.KubectlFailed, match="not found"):
        cluster.get("pod", "none")
    with pytest.raises(kubectl.KubectlFailed, match="timed out"):
        cluster.wait("condition=Succeeded", "crd/servicemigrations.podferry.dev", seconds=1)


def test_a_client_process_runs_glances_and_ends(tmp_path: Path) -> None:
    service = server.Server(port=0, ballast=1, host="127.0.0.1")
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        with clients.Client("echo", f"127.0.0.1:{service.address[1]}", tmp_path, connections=3, pace=0.01) as client:
            assert client.wait_connected().connections == 3
            result = client.finish()
    finally:
        service.stop()
        thread.join(10)
    assert result.clean, result.summary()
    assert len(result.connections) == 3


def test_a_client_without_a_service_is_an_error_with_its_log(tmp_path: Path) -> None:
    with clients.Client("echo", "127.0.0.1:1", tmp_path) as client, pytest.raises(AssertionError, match="cannot reach"):
        client.wait_connected(30)
