"""The lab's kubelet runs ordinary pods as Kubernetes would: what is applied comes to run, and what is deleted goes.

One node, its kubelet and the embedded API; no agent and no operator.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.lab import kubehttp, layout
from tests.lab import lab as labs
from tests.lab import node as nodes

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

PODS = "/api/v1/namespaces/default/pods"
SECONDS = 300.0
"""Deadline of every wait: an emulated node on a busy machine may need a hundred times what a real one does."""

WAIT = "sleep 100000 & wait"
"""Costs nothing while it waits, and lets the shell's traps run at once."""

FOREVER = ["sh", "-c", f"trap 'exit 0' TERM; {WAIT}"]


@pytest.fixture(scope="module")
def lab() -> Iterator[labs.Lab]:
    with labs.Lab(("node-a",)) as started:
        started.start_api()
        started.nodes["node-a"].service("kubelet").start()
        yield started


@pytest.fixture(scope="module")
def node(lab: labs.Lab) -> nodes.Node:
    return lab.nodes["node-a"]


class Cluster:
    """The API as a user sees it, with waits."""

    def __init__(self, lab: labs.Lab) -> None:
        config = lab.kubeconfig.read_text()
        (url,) = [line.split()[-1] for line in config.splitlines() if line.strip().startswith("server:")]
        self.client = kubehttp.Client(url)
        self.made: list[str] = []

    def apply(self, name: str, *containers: dict[str, Any], annotations: Any = None, **spec: Any) -> dict[str, Any]:
        """Create a pod; each container runs the sample image and, unless it says otherwise, until it is told to end."""
        full = [{"name": "main", "image": layout.SAMPLE_IMAGE, "command": FOREVER, **one} for one in containers or [{}]]
        self.made.append(name)
        meta = {"name": name, "labels": {"app": name}, "annotations": annotations or {}}
        body = {"nodeName": "node-a", "terminationGracePeriodSeconds": 10, **spec, "containers": full}
        return self.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body})

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a pod, or None when there is none."""
        try:
            return self.client.get(f"{PODS}/{name}")
        except kubehttp.ApiError as error:
            if error.code == 404:
                return None
            raise

    def until(self, name: str, what: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Return the pod as soon as `what` holds of it."""

        def check() -> dict[str, Any] | None:
            pod = self.get(name)
            assert pod is not None, f"{name} is gone"
            return pod if what(pod) else None

        found: dict[str, Any] = eventually(check, lambda: json.dumps((self.get(name) or {}).get("status"), indent=1))
        return found

    def ready(self, name: str) -> dict[str, Any]:
        """Wait until a pod is ready."""
        return self.until(name, lambda pod: condition(pod, "Ready") == "True")

    def delete(self, name: str, grace: int | None = None) -> None:
        """Delete a pod and wait until its object is gone."""
        self.client.delete(f"{PODS}/{name}", grace=grace)
        eventually(lambda: self.get(name) is None)


@pytest.fixture
def cluster(lab: labs.Lab, node: nodes.Node) -> Iterator[Cluster]:
    found = Cluster(lab)
    eventually(lambda: found.client.get("/api/v1/nodes")["items"])
    yield found
    for name in found.made:
        if found.get(name) is not None:
            found.client.delete(f"{PODS}/{name}", grace=0)
    eventually(lambda: nothing_left(node), lambda: node.run("ctr", "-n", "k8s.io", "containers", "list").out)


def eventually(check: Callable[[], Any], told: Callable[[], str] = str) -> Any:
    """Return what `check` gives as soon as that is true; `told` says what was there instead."""
    deadline = time.monotonic() + SECONDS
    while not (found := check()):
        assert time.monotonic() < deadline, f"waited for nothing: {told()}"
        time.sleep(0.3)
    return found


def condition(pod: dict[str, Any], kind: str) -> str:
    return next((one["status"] for one in pod["status"].get("conditions") or [] if one["type"] == kind), "")


def container(pod: dict[str, Any], name: str = "main") -> dict[str, Any]:
    found = [one for one in pod["status"].get("containerStatuses") or [] if one["name"] == name]
    return dict(found[0]) if found else {"state": {}, "restartCount": 0}


def container_id(pod: dict[str, Any], name: str = "main") -> str:
    return str(container(pod, name)["containerID"]).removeprefix("containerd://")


def inside(node: nodes.Node, pod: dict[str, Any], *command: str, name: str = "main") -> str:
    """Run a command in a container of the pod, as `kubectl exec` would; return what it prints."""
    words = ("task", "exec", "--exec-id", f"t{time.monotonic_ns()}", container_id(pod, name), *command)
    return node.run("ctr", "-n", "k8s.io", *words, timeout=SECONDS).out


def nothing_left(node: nodes.Node) -> bool:
    """Say whether the node has neither containers nor files nor cgroups of any pod."""
    listed = node.run("ctr", "-n", "k8s.io", "containers", "list", "--quiet", timeout=SECONDS).out.split()
    kept = "ls /var/lib/kubelet/pods /var/log/pods; find /sys/fs/cgroup/kubepods -name 'pod*'"
    folders = node.run("sh", "-c", kept, check=False).out.split()
    return not listed and all(one.endswith(":") for one in folders)


def test_the_node_is_registered_and_ready(cluster: Cluster) -> None:
    def ready() -> dict[str, Any] | None:
        found = cluster.client.get("/api/v1/nodes/node-a")
        return found if condition(found, "Ready") == "True" else None

    found = eventually(ready)
    assert {"type": "InternalIP", "address": layout.node_address(1)} in found["status"]["addresses"]
    assert found["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://1.6")
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    (lease,) = eventually(lambda: cluster.client.get(leases)["items"])
    assert lease["spec"]["holderIdentity"] == "node-a"


def test_an_ordinary_pod_runs_as_it_was_asked_to(cluster: Cluster, node: nodes.Node) -> None:
    environment = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]
    resources = {"limits": {"memory": "64Mi", "cpu": "500m"}}
    cluster.apply("plain", {"env": environment, "resources": resources}, annotations={"podferry.dev/x": 'a "b"'})
    pod = cluster.ready("plain")
    uid, address = pod["metadata"]["uid"], pod["status"]["podIP"]
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["hostIP"] == node.address
    assert address.startswith("10.77.1.")

    said = inside(node, pod, "sh", "-c", "hostname; echo $A $B; cat /etc/hosts; cat /proc/1/oom_score_adj")
    assert said.splitlines()[:2] == ["plain", "1 12"]
    assert f"{address}\tplain" in said
    assert said.splitlines()[-1] == "-997"
    group = f"/sys/fs/cgroup/kubepods/pod{uid}/{container_id(pod)}"
    assert node.run("cat", f"{group}/memory.max").out.strip() == str(64 * 2**20)

    labels = json.loads(node.run("ctr", "-n", "k8s.io", "containers", "info", container_id(pod)).out)["Labels"]
    assert labels["io.kubernetes.pod.uid"] == uid
    assert labels["io.kubernetes.container.name"] == "main"
    (config,) = node.run(
        "sh", "-c", f"cat /run/containerd/io.containerd.runtime.v2.task/k8s.io/{container_id(pod)}/config.json"
    ).out.splitlines()
    assert json.loads(config)["annotations"]["podferry.dev/x"] in {'a "b"', 'a \\"b\\"'}


def test_containers_share_the_network_and_a_volume_and_start_in_order(cluster: Cluster, node: nodes.Node) -> None:
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}, {"name": "ram", "mountPath": "/ram"}]}
    serve = "touch /shared/first; cd /shared; exec python3 -m http.server 8000"
    ask = "test -e /shared/first && cat /ram/note; trap 'exit 0' TERM; " + WAIT
    cluster.apply(
        "pair",
        {"name": "a", "command": ["sh", "-c", f"echo told >/ram/note; {serve}"], **shared},
        {"name": "b", "command": ["sh", "-c", ask], **shared},
        volumes=[
            {"name": "shared", "emptyDir": {}},
            {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
    )
    pod = cluster.ready("pair")
    assert [one["name"] for one in pod["status"]["containerStatuses"]] == ["a", "b"]
    folder = f"/var/log/pods/default_pair_{pod['metadata']['uid']}"
    eventually(lambda: "stdout F told" in node.run("cat", f"{folder}/b/0.log").out)
    fetch = "until wget -qO- http://127.0.0.1:8000/; do sleep 0.5; done"
    assert "first" in inside(node, pod, "sh", "-c", fetch, name="b")
    assert "tmpfs /ram tmpfs" in inside(node, pod, "cat", "/proc/mounts", name="a")


def test_readiness_waits_for_its_probe_and_the_slice_follows(cluster: Cluster, node: nodes.Node) -> None:
    spec = {"selector": {"app": "gated"}, "ports": [{"port": 80, "targetPort": 8000}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gated"}, "spec": spec}
    cluster.client.create("/api/v1/namespaces/default/services", service)
    probe = {
        "exec": {"command": ["ls", "/tmp/ok"]},
        "periodSeconds": 1,
        "timeoutSeconds": 60,
        "failureThreshold": 1,
    }
    cluster.apply("gated", {"readinessProbe": probe})

    def endpoints() -> list[dict[str, Any]]:
        slices = cluster.client.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices")["items"]
        return [endpoint for one in slices for endpoint in one.get("endpoints") or []]

    pod = cluster.until("gated", lambda pod: "running" in container(pod)["state"])
    eventually(lambda: [one["conditions"]["ready"] for one in endpoints()] == [False])
    assert condition(pod, "Ready") == "False"
    inside(node, pod, "touch", "/tmp/ok")
    pod = cluster.ready("gated")
    eventually(lambda: [one["conditions"]["ready"] for one in endpoints()] == [True])
    assert endpoints()[0]["addresses"] == [pod["status"]["podIP"]]
    inside(node, pod, "python3", "-c", "import os; os.remove('/tmp/ok')")
    cluster.until("gated", lambda pod: condition(pod, "Ready") == "False")
    cluster.client.delete("/api/v1/namespaces/default/services/gated")


def test_a_container_that_fails_comes_back_with_back_off(cluster: Cluster) -> None:
    command = ["sh", "-c", "echo why >/dev/termination-log; exit 3"]
    cluster.apply("failing", {"command": command})
    pod = cluster.until("failing", lambda pod: container(pod)["restartCount"] == 1)
    pod = cluster.until("failing", lambda pod: "waiting" in container(pod)["state"])
    now = container(pod)
    assert now["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert (now["lastState"]["terminated"]["exitCode"], now["lastState"]["terminated"]["message"]) == (3, "why\n")
    assert pod["status"]["phase"] == "Running"
    cluster.until("failing", lambda pod: container(pod)["restartCount"] == 2)


@pytest.mark.parametrize(
    ("policy", "code", "phase"), [("Never", 0, "Succeeded"), ("OnFailure", 0, "Succeeded"), ("Never", 1, "Failed")]
)
def test_a_pod_that_has_done_its_work_ends(cluster: Cluster, policy: str, code: int, phase: str) -> None:
    cluster.apply("work", {"command": ["sh", "-c", f"exit {code}"]}, restartPolicy=policy)
    pod = cluster.until("work", lambda pod: pod["status"]["phase"] == phase)
    assert container(pod)["state"]["terminated"]["exitCode"] == code
    assert container(pod)["restartCount"] == 0
    cluster.delete("work")


def test_a_liveness_probe_that_fails_restarts_the_container(cluster: Cluster, node: nodes.Node) -> None:
    command = ["sh", "-c", f"touch /tmp/alive; trap 'exit 0' TERM; {WAIT}"]
    probe = {
        "exec": {"command": ["ls", "/tmp/alive"]},
        "periodSeconds": 1,
        "timeoutSeconds": 60,
        "failureThreshold": 2,
    }
    cluster.apply("mortal", {"command": command, "livenessProbe": probe})
    first = cluster.ready("mortal")
    inside(node, first, "python3", "-c", "import os; os.remove('/tmp/alive')")
    second = cluster.until(
        "mortal", lambda pod: container(pod)["restartCount"] == 1 and "running" in container(pod)["state"]
    )
    assert container_id(second) != container_id(first)
    assert second["status"]["podIP"] == first["status"]["podIP"]


def test_a_deleted_pod_gets_its_grace_period(cluster: Cluster, node: nodes.Node) -> None:
    command = ["sh", "-c", f"trap 'sleep 1; touch /tell/gently; exit 0' TERM; {WAIT}"]
    volume = {"name": "tell", "hostPath": {"path": "/run/tell", "type": "DirectoryOrCreate"}}
    mount = {"volumeMounts": [{"name": "tell", "mountPath": "/tell"}]}
    cluster.apply("gentle", {"command": command, **mount}, volumes=[volume], terminationGracePeriodSeconds=200)
    cluster.ready("gentle")
    cluster.delete("gentle")
    assert node.run("ls", "/run/tell").out.split() == ["gently"]


def test_a_pod_that_will_not_end_is_killed(cluster: Cluster) -> None:
    deaf = {"command": ["sh", "-c", "trap '' TERM; while :; do sleep 100; done"]}
    cluster.apply("deaf", deaf, terminationGracePeriodSeconds=1)
    cluster.ready("deaf")
    cluster.delete("deaf")


def test_a_pod_whose_object_is_gone_is_stopped(cluster: Cluster, node: nodes.Node) -> None:
    cluster.apply("forced")
    pod = cluster.ready("forced")
    cluster.delete("forced", grace=0)
    eventually(lambda: container_id(pod) not in node.run("ctr", "-n", "k8s.io", "containers", "list", "--quiet").out)


def test_a_restarted_kubelet_goes_on_with_its_pods(cluster: Cluster, node: nodes.Node) -> None:
    cluster.apply("kept")
    cluster.apply("dropped")
    kept, dropped = cluster.ready("kept"), cluster.ready("dropped")
    node.service("kubelet").stop()
    cluster.delete("dropped", grace=0)
    node.service("kubelet").start()
    eventually(
        lambda: container_id(dropped) not in node.run("ctr", "-n", "k8s.io", "containers", "list", "--quiet").out
    )
    again = cluster.ready("kept")
    assert container(again) == container(kept)
    cluster.delete("kept")


def test_what_runs_in_the_cgroup_of_no_pod_is_killed(node: nodes.Node) -> None:
    group = "/sys/fs/cgroup/kubepods/burstable/pod11111111-2222-4333-8444-555555555555"
    node.run("sh", "-c", f"mkdir -p {group}/child; sleep 1000 >/dev/null 2>&1 & echo $! >{group}/child/cgroup.procs")
    eventually(lambda: node.run("test", "-e", group, check=False).code != 0)


def test_a_hanging_start_holds_back_its_own_pod_only(cluster: Cluster, node: nodes.Node) -> None:
    """A runtime whose `create` waits until it is let go, as a runtime may; the request ends and comes again."""
    slow = """#!/bin/sh
rest=${*#*--bundle }
case "$*" in *" create "*) case "$(cat ${rest%% *}/config.json)" in *'.container-type":"container"'*)
  while [ -e /run/hold ]; do sleep 0.5; done;; esac;; esac
exec /usr/sbin/runc "$@"
"""
    node.put("/run/slow", slow.encode(), 0o755)
    node.run("sh", "-c", "touch /run/hold; mount --bind /run/slow /usr/local/sbin/podferry-runtime")
    node.service("kubelet").stop()
    node.service("kubelet").start(args=["--runtime-request-timeout", "30"])
    try:
        runtime_class = {"metadata": {"name": "slow"}, "handler": "podferry"}
        cluster.client.create(
            "/apis/node.k8s.io/v1/runtimeclasses",
            {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", **runtime_class},
        )
        cluster.apply("slow", runtimeClassName="slow")
        cluster.until("slow", lambda pod: container(pod)["state"])
        cluster.apply("other")
        cluster.ready("other")
        first = cluster.until("slow", lambda pod: container(pod).get("lastState"))
        assert container(first)["lastState"]["terminated"]["reason"] == "StartError"
        assert container(first)["state"]["waiting"]["reason"] == "RunContainerError"
        node.run("rm", "/run/hold")
        again = cluster.ready("slow")
        assert container(again)["restartCount"] >= 1
        assert container_id(again) != container_id(first)
    finally:
        node.run("sh", "-c", "rm -f /run/hold; umount --lazy /usr/local/sbin/podferry-runtime")
        node.service("kubelet").stop()
        node.service("kubelet").start()
