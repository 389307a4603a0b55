"""Unmodified kubectl, without special flags, doing what people do."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.support import kubectl
from tests.support.kube_http import MERGE, eventually
from tests.support.kube_probe import Cluster, Space, ferry, pod


def _apply(space: Space, *objects: dict[str, Any], extra: tuple[str, ...] = ()) -> str:
    return space.kubectl.run("apply", "-f", "-", *extra, text=yaml.safe_dump_all(objects))


def _refusal(space: Space, *arguments: str, text: str | None = None) -> str:
    with pytest.raises(kubectl.KubectlFailed) as failed:
        space.kubectl.run(*arguments, text=text)
    return str(failed.value)


def test_apply_is_declarative(space: Space) -> None:
    container = {
        "name": "main",
        "image": "busybox:1",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    }
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    web = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"team": "a"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    boat = ferry(tags=["a"])
    assert _apply(space, web, boat).splitlines() == [
        "deployment.apps/web created",
        "ferry.probe.podferry.dev/one created",
    ]
    assert [line.rpartition(" ")[2] for line in _apply(space, web, boat).splitlines()] == ["unchanged", "unchanged"]
    container["env"] = [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]
    del web["metadata"]["labels"]  # type: ignore[attr-defined]
    boat["spec"]["tags"].append("b")
    assert [line.rpartition(" ")[2] for line in _apply(space, web, boat).splitlines()] == ["configured", "configured"]
    found = space.kubectl.get("deployment", "web")
    env = found["spec"]["template"]["spec"]["containers"][0]["env"]
    assert sorted(one["name"] for one in env) == ["B", "C"]
    assert "labels" not in found["metadata"]
    assert space.kubectl.get("ferry", "one")["spec"]["tags"] == ["a", "b"]


def test_apply_validates(space: Space) -> None:
    refused = _refusal(space, "apply", "-f", "-", text=yaml.safe_dump(ferry(speed=3)))
    assert 'strict decoding error: unknown field "spec.speed"' in refused
    refused = _refusal(space, "apply", "-f", "-", text=yaml.safe_dump(pod(hostNetwrk=True)))
    assert 'unknown field "spec.hostNetwrk"' in refused
    refused = _refusal(space, "apply", "-f", "-", text=yaml.safe_dump(ferry(seats=0)))
    assert 'The Ferry "one" is invalid: spec.seats: Invalid value: 0' in refused
    refused = _refusal(space, "create", "-f", "-", text=yaml.safe_dump({**ferry(), "kind": "Submarine"}))
    assert "no matches for kind" in refused


def test_server_side_dry_run(space: Space) -> None:
    assert "created (server dry run)" in _apply(space, ferry(), extra=("--dry-run=server",))
    assert "NotFound" in _refusal(space, "get", "ferry", "one")


def test_printer_columns(space: Space) -> None:
    _apply(space, ferry("a"), ferry("b", harbour="calais", seats=3))
    lines = space.kubectl.run("get", "fy", "--sort-by=.metadata.name").splitlines()
    assert lines[0].split() == ["NAME", "HARBOUR", "READY", "AGE"]
    assert [line.split()[:2] for line in lines[1:]] == [["a", "brest"], ["b", "calais"]]
    wide = space.kubectl.run("get", "ferries.probe.podferry.dev", "-o", "wide").splitlines()
    assert wide[0].split() == ["NAME", "HARBOUR", "READY", "SEATS", "AGE"]
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    space.http.expect(200, "PATCH", space.path("ferries", "a") + "/status", status, kind=MERGE)
    assert space.kubectl.run("get", "ferry", "a", "--no-headers").split()[:3] == ["a", "brest", "True"]
    assert space.kubectl.run("get", "ferry", "a", "-o", "name").strip() == "ferry.probe.podferry.dev/a"
    assert space.kubectl.run("get", "ferry", "a", "-o", "jsonpath={.spec.seats}") == "10"
    assert "ferry.probe.podferry.dev/a" in space.kubectl.run("get", "all")


def test_columns_of_pods(space: Space) -> None:
    _apply(space, pod(nodeName="some-node"))
    header, row = space.kubectl.run("get", "pods", "-o", "wide").splitlines()
    assert header.split("  ")[0] == "NAME"
    assert header.split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert header.endswith("NOMINATED NODE   READINESS GATES")
    cells = row.split()
    assert cells[:4] + cells[5:] == ["one", "0/1", "Pending", "0", "<none>", "some-node", "<none>", "<none>"]
    running = {"name": "main", "ready": True, "restartCount": 2, "image": "b", "imageID": "b", "state": {"running": {}}}
    status = {"phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}], "containerStatuses": [running]}
    path = space.path("pods", "one")
    space.http.expect(200, "PATCH", f"{path}/status", {"status": status}, kind=MERGE)
    assert space.kubectl.run("get", "pods", "-o", "wide", "--no-headers").split()[:4] == ["one", "1/1", "Running", "2"]
    waiting = running | {"ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    space.http.expect(200, "PATCH", f"{path}/status", {"status": {"containerStatuses": [waiting]}}, kind=MERGE)
    assert space.kubectl.run("get", "pods", "--no-headers").split()[:3] == ["one", "0/1", "CrashLoopBackOff"]
    space.kubectl.run("delete", "pod", "one", "--wait=false")
    assert space.kubectl.run("get", "pods", "--no-headers").split()[2] == "Terminating"
    space.kubectl.run("delete", "pod", "one", "--grace-period=0", "--force")


@pytest.fixture
def node(cluster: Cluster, space: Space) -> Iterator[str]:
    name = f"node-{space.name}"
    addresses = [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": name}]
    info = {
        "kubeletVersion": "v1.30.0", "osImage": "Debian", "kernelVersion": "6.1", "containerRuntimeVersion": "containerd://1.6",
        "machineID": "", "systemUUID": "", "bootID": "", "kubeProxyVersion": "", "operatingSystem": "linux",
        "architecture": "amd64",
    }  # fmt: skip
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    status = {"addresses": addresses, "nodeInfo": info, "conditions": [ready], "capacity": {"cpu": "1", "pods": 10}}
    metadata = {"name": name, "labels": {"node-role.kubernetes.io/worker": ""}}
    cluster.http.expect(201, "POST", "/api/v1/nodes", {"metadata": metadata, "status": status})
    yield name
    cluster.http.expect(200, "DELETE", f"/api/v1/nodes/{name}")


def test_nodes(space: Space, node: str) -> None:
    header, row = space.kubectl.run("get", "node", node, "-o", "wide").splitlines()
    expected = "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME"
    assert header.split() == expected.split()
    cells = row.split()
    assert cells[:3] == [node, "Ready", "worker"]
    assert cells[4:] == ["v1.30.0", "192.0.2.1", "<none>", "Debian", "6.1", "(amd64)", "containerd://1.6"]
    space.kubectl.run("cordon", node)
    assert space.kubectl.run("get", "node", node, "--no-headers").split()[1] == "Ready,SchedulingDisabled"
    space.kubectl.run("uncordon", node)
    space.kubectl.run("taint", "node", node, "a=b:NoSchedule")
    assert space.kubectl.get("node", node)["spec"]["taints"] == [{"key": "a", "value": "b", "effect": "NoSchedule"}]
    _apply(space, pod(nodeName=node))
    described = space.kubectl.run("describe", "node", node)
    for words in ("KubeletReady", "192.0.2.1", "a=b:NoSchedule", space.name):
        assert words in described


def test_services_and_slices(space: Space) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.1.1.1"]}, {"addresses": ["10.1.1.2"]}],
    }
    _apply(space, service, endpoints)
    header, row = space.kubectl.run("get", "svc", "-o", "wide").splitlines()
    assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]
    cells = row.split()
    assert cells[:2] + cells[3:5] + cells[6:] == ["web", "ClusterIP", "<none>", "80/TCP", "app=web"]
    header, row = space.kubectl.run("get", "endpointslices").splitlines()
    assert header.split() == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert row.split()[:4] == ["web-x", "IPv4", "8080", "10.1.1.1,10.1.1.2"]
    described = space.kubectl.run("describe", "svc", "web")
    assert "10.1.1.1:8080" in described
    assert "service/web unchanged" in _apply(space, service, endpoints)


def test_events(space: Space) -> None:
    made = space.create("ferries", ferry())
    about = {"apiVersion": made["apiVersion"], "kind": "Ferry", "namespace": space.name, "name": "one"}
    event = {
        "metadata": {"name": "e"},
        "involvedObject": about | {"uid": made["metadata"]["uid"]},
        "type": "Warning",
        "reason": "Storm",
        "message": "it stays in harbour",
        "source": {"component": "probe"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    }
    space.create("events", event)
    for command in (("get", "events"), ("events",), ("events", "--for", "ferry/one")):
        header, row = space.kubectl.run(*command).splitlines()
        assert [word for word in header.split() if word not in {"LAST", "SEEN"}] == [
            "TYPE",
            "REASON",
            "OBJECT",
            "MESSAGE",
        ]
        assert row.split()[1:4] in (["Warning", "Storm", "ferry/one"], ["Warning", "Storm", "Ferry/one"])
        assert row.endswith("it stays in harbour")
    described = space.kubectl.run("describe", "ferry", "one")
    assert "Harbour:  brest" in described
    assert "it stays in harbour" in described


def test_describe_a_pod(space: Space) -> None:
    _apply(space, pod(nodeName="some-node"))
    described = space.kubectl.run("describe", "pod", "one")
    for words in ("Node:", "some-node", "Image:", "busybox:1.36", "QoS Class:", "BestEffort"):
        assert words in described


def test_wait(space: Space) -> None:
    _apply(space, ferry())
    waiting = _start(space, "wait", "--for=condition=Ready", "ferry/one", "--timeout=60s")
    patched = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    path = space.path("ferries", "one")
    space.http.expect(200, "PATCH", f"{path}/status", patched, kind=MERGE)
    patched["status"]["conditions"][0]["status"] = "True"
    space.http.expect(200, "PATCH", f"{path}/status", patched, kind=MERGE)
    assert waiting.communicate(timeout=70)[0].strip() == "ferry.probe.podferry.dev/one condition met"
    assert "condition met" in space.kubectl.run("wait", "--for=jsonpath={.spec.seats}=10", "ferry/one", "--timeout=5s")
    waiting = _start(space, "wait", "--for=delete", "ferry/one", "--timeout=60s")
    space.kubectl.run("delete", "ferry", "one")
    assert waiting.wait(70) == 0
    assert "timed out" in _refusal_of_wait(space)


def _refusal_of_wait(space: Space) -> str:
    _apply(space, ferry("two"))
    return _refusal(space, "wait", "--for=condition=Ready", "ferry/two", "--timeout=1s")


def _start(space: Space, *arguments: str) -> subprocess.Popen[str]:
    command = [
        str(kubectl.BINARY),
        "--kubeconfig",
        str(space.cluster.kubeconfig),
        "--namespace",
        space.name,
        *arguments,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_get_follows_changes(space: Space) -> None:
    following = _start(space, "get", "fy", "-w", "--output-watch-events")
    try:
        stream = following.stdout
        assert stream is not None
        _apply(space, ferry())
        assert stream.readline().split() == ["EVENT", "NAME", "HARBOUR", "READY", "AGE"]
        assert stream.readline().split()[:3] == ["ADDED", "one", "brest"]
        status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        space.http.expect(200, "PATCH", space.path("ferries", "one") + "/status", status, kind=MERGE)
        assert stream.readline().split()[:4] == ["MODIFIED", "one", "brest", "True"]
        space.kubectl.run("delete", "fy", "one")
        assert stream.readline().split()[:2] == ["DELETED", "one"]
    finally:
        following.terminate()
        following.wait(10)


def test_delete_waits_for_finalizers(space: Space) -> None:
    body = ferry()
    body["metadata"]["finalizers"] = ["probe.podferry.dev/hold"]
    _apply(space, body)
    deleting = _start(space, "delete", "ferry", "one")
    path = space.path("ferries", "one")
    eventually(lambda: space.http.expect(200, "GET", path)["metadata"].get("deletionTimestamp"))
    time.sleep(0.3)  # not a wait for anything: long enough to see that it does not return
    assert deleting.poll() is None
    space.kubectl.run("patch", "ferry", "one", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]')
    assert deleting.wait(60) == 0
    assert "NotFound" in _refusal(space, "delete", "ferry", "one")
    assert space.kubectl.run("delete", "ferry", "one", "--ignore-not-found") == ""


def test_patch_label_annotate(space: Space) -> None:
    _apply(space, ferry(), pod())
    space.kubectl.run("patch", "ferry", "one", "--type=merge", "-p", '{"spec":{"seats":5}}')
    space.kubectl.run(
        "patch", "ferry", "one", "--type=merge", "--subresource=status", "-p", '{"status":{"passengers":4}}'
    )
    found = space.kubectl.get("ferry", "one")
    assert (found["spec"]["seats"], found["status"]["passengers"]) == (5, 4)
    space.kubectl.run("patch", "pod", "one", "-p", '{"spec":{"containers":[{"name":"main","image":"busybox:2"}]}}')
    assert space.kubectl.get("pod", "one")["spec"]["containers"][0]["image"] == "busybox:2"
    refused = _refusal(space, "patch", "ferry", "one", "--type=merge", "-p", '{"spec":{"harbour":"calais"}}')
    assert "harbour is immutable" in refused
    space.kubectl.run("label", "pod", "one", "a=b")
    space.kubectl.run("annotate", "pod", "one", "c=d")
    space.kubectl.run("label", "pod", "one", "a-")
    metadata = space.kubectl.get("pod", "one")["metadata"]
    assert not metadata.get("labels")
    assert metadata["annotations"]["c"] == "d"


def test_create_replace_and_edit(space: Space) -> None:
    body = ferry()
    assert "created" in space.kubectl.run("create", "-f", "-", text=yaml.safe_dump(body))
    assert "AlreadyExists" in _refusal(space, "create", "-f", "-", text=yaml.safe_dump(body))
    changed = space.kubectl.get("ferry", "one")
    changed["spec"]["seats"] = 7
    assert "replaced" in space.kubectl.run("replace", "-f", "-", text=json.dumps(changed))
    assert "Conflict" in _refusal(space, "replace", "-f", "-", text=json.dumps(changed))
    space.kubectl.run("create", "configmap", "made", "--from-literal=a=b")
    space.kubectl.run("create", "secret", "generic", "made", "--from-literal=a=b")
    assert space.kubectl.run("get", "cm,secret", "made", "--no-headers").count("made") == 2


def test_explain_and_api_resources(space: Space) -> None:
    explained = space.kubectl.run("explain", "ferry.spec.harbour")
    assert "where it lies" in explained
    assert "containerPort" in space.kubectl.run("explain", "pod.spec.containers.ports")
    listed = space.kubectl.run("api-resources", "--api-group=probe.podferry.dev", "--no-headers")
    assert listed.split() == ["ferries", "fy", "probe.podferry.dev/v1", "true", "Ferry"]
    assert "probe.podferry.dev/v1" in space.kubectl.run("api-versions").splitlines()


def test_server_side_apply(space: Space) -> None:
    assert "serverside-applied" in _apply(space, ferry(seats=5), extra=("--server-side",))
    assert "serverside-applied" in _apply(space, ferry(), extra=("--server-side",))
    found = space.kubectl.get("ferry", "one")
    assert found["spec"]["seats"] == 10
    other = ("--server-side", "--field-manager=other")
    conflicting = yaml.safe_dump(ferry(seats=6))
    assert "serverside-applied" in space.kubectl.run("apply", "-f", "-", *other, text=conflicting)
    refused = _refusal(space, "apply", "-f", "-", "--server-side", text=yaml.safe_dump(ferry(seats=7)))
    assert 'conflict with "other"' in refused
    assert ".spec.seats" in refused
    _apply(space, ferry(seats=7), extra=("--server-side", "--force-conflicts"))
    assert space.kubectl.get("ferry", "one")["spec"]["seats"] == 7
