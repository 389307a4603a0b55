"""The lab's EndpointSlice controller and its client against the embedded API, each a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.lab import kubehttp
from tests.support import processes

DEADLINE = 30.0
PODS = "/api/v1/namespaces/default/pods"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


@contextlib.contextmanager
def serving(address: str) -> Iterator[str]:
    """Run the embedded API on "host:port" while the block runs; the block gets its URL."""
    command = [sys.executable, "-m", "tests.lab.kubeapi", "--listen", address]
    with processes.running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield process.stdout.readline().split()[-1]


@pytest.fixture
def api() -> Iterator[str]:
    with serving("127.0.0.1:0") as url:
        yield url


@pytest.fixture
def client(api: str) -> kubehttp.Client:
    return kubehttp.Client(api)


@pytest.fixture
def controller(api: str) -> Iterator[None]:
    with processes.running([sys.executable, "-m", "tests.lab.controllers", "--api", api]):
        yield


def eventually(check: Callable[[], Any]) -> Any:
    """Return what `check` gives as soon as that is true."""
    deadline = time.monotonic() + DEADLINE
    while not (found := check()):
        assert time.monotonic() < deadline, "waited for nothing"
        time.sleep(0.05)
    return found


def pod(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": "node-a", "containers": [{"name": "c", "image": "app"}]},
    }


def make_ready(client: kubehttp.Client, name: str, ip: str) -> None:
    status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}
    client.merge(f"{PODS}/{name}/status", {"status": status})


@pytest.mark.usefixtures("controller")
def test_a_slice_follows_its_pods(client: kubehttp.Client) -> None:
    service = {"metadata": {"name": "echo"}, "spec": {"selector": {"app": "echo"}, "ports": [{"port": 80}]}}
    client.create("/api/v1/namespaces/default/services", {"apiVersion": "v1", "kind": "Service", **service})

    def conditions() -> list[dict[str, bool]]:
        (one,) = client.get(SLICES)["items"]
        return [endpoint["conditions"] for endpoint in one.get("endpoints") or []]

    eventually(lambda: client.get(SLICES)["items"])
    client.create(PODS, pod("p1", app="echo"))
    client.create(PODS, pod("stranger", app="other"))
    make_ready(client, "p1", "10.1.0.5")
    make_ready(client, "stranger", "10.1.0.6")
    eventually(lambda: conditions() == [{"ready": True, "serving": True, "terminating": False}])

    client.delete(f"{PODS}/p1")
    eventually(lambda: conditions() == [{"ready": False, "serving": True, "terminating": True}])
    client.delete(f"{PODS}/p1", grace=0)
    eventually(lambda: conditions() == [])

    (only,) = client.get(SLICES)["items"]
    assert only["metadata"]["name"].startswith("echo-")
    client.delete("/api/v1/namespaces/default/services/echo")
    eventually(lambda: not client.get(SLICES)["items"])


def test_a_reflector_tells_of_every_change(client: kubehttp.Client) -> None:
    told: list[tuple[str, bool]] = []
    client.create(PODS, pod("before"))
    reflector = kubehttp.Reflector(client, PODS, lambda obj, gone: told.append((obj["metadata"]["name"], gone)))
    reflector.start()
    assert reflector.synced.wait(DEADLINE)
    assert told == [("before", False)]
    client.create(PODS, pod("after"))
    client.delete(f"{PODS}/before", grace=0)
    eventually(lambda: told == [("before", False), ("after", False), ("before", True)])
    assert [one["metadata"]["name"] for one in reflector.objects()] == ["after"]


def test_a_refused_call_carries_the_status(client: kubehttp.Client) -> None:
    with pytest.raises(kubehttp.ApiError) as refused:
        client.get(f"{PODS}/nobody")
    assert (refused.value.code, refused.value.reason) == (404, "NotFound")
    made = client.create(PODS, pod("p"))
    with pytest.raises(kubehttp.ApiError) as refused:
        client.delete(f"{PODS}/p", uid="another", grace=0)
    assert refused.value.code == 409
    client.delete(f"{PODS}/p", uid=made["metadata"]["uid"], grace=0)


def test_a_server_that_is_away_is_code_zero() -> None:
    with pytest.raises(kubehttp.ApiError) as refused:
        kubehttp.Client("http://127.0.0.1:1").get(PODS)
    assert refused.value.code == 0


def test_a_reflector_goes_on_after_an_outage() -> None:
    """The API server comes back empty, as the embedded one does: what it no longer has is told as gone."""
    told: list[tuple[str, bool]] = []
    changed = threading.Event()

    def note(obj: kubehttp.Json, gone: bool) -> None:
        told.append((obj["metadata"]["name"], gone))
        changed.set()

    with serving("127.0.0.1:0") as url:
        client = kubehttp.Client(url)
        kubehttp.Reflector(client, PODS, note).start()
        client.create(PODS, pod("old"))
        assert changed.wait(DEADLINE)
    with serving(url.removeprefix("http://")):
        client.create(PODS, pod("new"))
        eventually(lambda: told == [("old", False), ("old", True), ("new", False)])
