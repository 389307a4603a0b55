"""The view of pods against a CRI server of its own, and runc's state files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from podferry import errors
from podferry_agent import settings as settings_module
from podferry_agent.runtime import cri_pb2, cri_pb2_grpc, pods, runc

UID = "11111111-2222-3333-4444-555555555555"


class Cri(cri_pb2_grpc.RuntimeServiceServicer):
    """Lists what it is given, filtered as containerd does."""

    def __init__(self) -> None:
        self.containers: list[cri_pb2.Container] = []

    def ListContainers(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        del context
        wanted = request.filter
        found = [
            item
            for item in self.containers
            if item.state == wanted.state.state
            and all(item.labels.get(key) == value for key, value in wanted.label_selector.items())
        ]
        return cri_pb2.ListContainersResponse(containers=found)

    def ListPodSandbox(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        del request, context
        found = {item.labels[pods.POD_UID] for item in self.containers}
        metadata = [cri_pb2.PodSandboxMetadata(uid=uid) for uid in found]
        return cri_pb2.ListPodSandboxResponse(items=[cri_pb2.PodSandbox(metadata=one) for one in metadata])


class Node:
    """One node: the CRI server, runc's root and bundles in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cri = Cri()
        self.settings = settings_module.Settings(
            node="n", cri=f"unix://{root / 'cri.sock'}", runc_root=root / "runc", run_dir=root / "run"
        )
        self.view = pods.PodView(self.settings)

    def add(self, container_id: str, name: str, created: int, **changes: Any) -> None:
        bundle = self.root / "bundles" / container_id
        bundle.mkdir(parents=True)
        namespaces = changes.get("namespaces", [{"type": "network", "path": "/proc/1/ns/net"}])
        annotations = {"io.kubernetes.cri.sandbox-uid": UID, "io.kubernetes.cri.container-name": name}
        spec = {"linux": {"namespaces": namespaces, "cgroupsPath": "/x"}, "annotations": annotations}
        (bundle / "config.json").write_text(json.dumps(spec))
        state = self.root / "runc" / container_id / "state.json"
        state.parent.mkdir(parents=True)
        document = {
            "init_process_pid": 4711,
            "cgroup_paths": {"": f"/sys/fs/cgroup/pod/{container_id}"},
            "config": {"labels": ["org.criu.config=/etc/other.conf", f"bundle={bundle}", "note=a=b"], "rootfs": "/r"},
            "unknown": {"kept": [1, 2**60]},
        }
        state.write_text(json.dumps(document))
        self.cri.containers.append(
            cri_pb2.Container(
                id=container_id,
                pod_sandbox_id="box",
                metadata=cri_pb2.ContainerMetadata(name=name),
                state=changes.get("state", cri_pb2.CONTAINER_RUNNING),
                created_at=created,
                labels={pods.POD_UID: changes.get("uid", UID), pods.POD_NAME: "web", pods.POD_NAMESPACE: "shop"},
            )
        )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    cri_pb2_grpc.add_RuntimeServiceServicer_to_server(made.cri, server)
    server.add_insecure_port(made.settings.cri)
    server.start()
    yield made
    server.stop(None).wait()


def test_a_pod_with_its_running_containers(node: Node) -> None:
    node.add("id2", "two", 20)
    node.add("id1", "one", 10)
    node.add("id0", "one", 5, state=cri_pb2.CONTAINER_EXITED)
    node.add("id9", "other", 1, uid="another")
    pod = node.view.find(UID)
    assert (pod.namespace, pod.name, pod.sandbox_id, pod.netns) == ("shop", "web", "box", Path("/proc/1/ns/net"))
    assert [(item.name, item.id, item.pid) for item in pod.containers] == [("one", "id1", 4711), ("two", "id2", 4711)]
    assert pod.containers[0].cgroup == Path("/sys/fs/cgroup/pod/id1")
    assert pod.containers[0].bundle.path == node.root / "bundles/id1"


def test_every_pod_is_known_until_it_is_deleted(node: Node) -> None:
    node.add("id0", "one", 5, state=cri_pb2.CONTAINER_EXITED)
    node.add("id9", "other", 1, uid="another")
    assert node.view.uids() == {UID, "another"}


def test_the_specs_order_wins_over_a_restart(node: Node) -> None:
    node.add("id2", "two", 20)
    node.add("id3", "one", 30)
    pod = node.view.find(UID)
    assert [item.name for item in pod.ordered(["one", "two"]).containers] == ["one", "two"]
    for names in (["one"], ["one", "two", "three"], ["one", "one", "two"]):
        with pytest.raises(errors.Permanent) as caught:
            pod.ordered(names)
        assert caught.value.reason == "PodChanged"


def test_what_cannot_be_found(node: Node, tmp_path: Path) -> None:
    with pytest.raises(errors.Permanent) as caught:
        node.view.find(UID)
    assert caught.value.reason == "PodNotFound"
    node.add("id1", "one", 1, namespaces=[{"type": "pid"}])
    with pytest.raises(errors.Permanent) as caught:
        node.view.find(UID)
    assert caught.value.reason == "HostNetwork"
    (tmp_path / "runc/id1/state.json").unlink()
    with pytest.raises(errors.Permanent) as caught:
        node.view.find(UID)
    assert caught.value.reason == "ContainerGone"


def test_no_container_runtime(tmp_path: Path) -> None:
    view = pods.PodView(settings_module.Settings(node="n", cri=f"unix://{tmp_path / 'nothing.sock'}"))
    with pytest.raises(errors.Transient) as caught:
        view.find(UID)
    assert caught.value.reason == "RuntimeUnavailable"


def test_an_annotation_in_a_private_copy_of_the_state(node: Node, tmp_path: Path) -> None:
    node.add("id1", "one", 1)
    original = (tmp_path / "runc/id1/state.json").read_text()
    runc.with_annotation(tmp_path / "runc", "id1", "org.criu.config", "/ours.conf", tmp_path / "private")
    copy = json.loads((tmp_path / "private/id1/state.json").read_text())
    labels = copy["config"].pop("labels")
    assert labels == [f"bundle={tmp_path}/bundles/id1", "note=a=b", "org.criu.config=/ours.conf"]
    expected = json.loads(original)
    del expected["config"]["labels"]
    assert copy == expected
    assert (tmp_path / "runc/id1/state.json").read_text() == original
