"""What a contract test of the operator plays on: a control plane, two nodes with fake agents, and the real operator."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kubernetes import client, config
from tests.support import control_plane, kubelets, pki, processes

from podferry import ids
from podferry_operator.api.migration import API_VERSION, GROUP, KIND, PLURAL
from podferry_operator.clients import kube
from podferry_operator.testing import FakeAgent

T = TypeVar("T")
Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "podferry.dev_servicemigrations.yaml"
CRDS = kube.Resource("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)
NAMESPACES = kube.Resource("/api/v1", "namespaces", namespaced=False)
RUNTIME_CLASS = {"metadata": {"name": ids.RUNTIME_CLASS}, "handler": ids.RUNTIME_CLASS}
SECONDS = 60.0
"""Longest time that anything awaited here may take."""

_subnets = itertools.count(1)


def run(call: Coroutine[Any, Any, T]) -> T:
    """Await one call from a test, which is not asynchronous."""
    return asyncio.run(call)


def until(what: str, found: Callable[[], T | None], seconds: float = SECONDS) -> T:
    """Poll until `found` returns something true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return result


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """An API server with our CRD."""

    kubeconfig: Path
    api: kube.Kube
    agent_port: int


@contextlib.contextmanager
def real(folder: Path) -> Iterator[ControlPlane]:
    """Start the control plane that KUBEBUILDER_ASSETS names and install the CRD."""
    with control_plane.running(folder) as running:
        yield _equip(running.kubeconfig)


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[ControlPlane]:
    """Start the embedded API server and install the CRD."""
    kubeconfig = folder / "kubeconfig"
    command = [sys.executable, "-m", "tests.lab.kubeapi", "--write-kubeconfig", str(kubeconfig)]
    with processes.running(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        until("the embedded API server answers", lambda: kubeconfig.exists() or process.poll() is not None)
        yield _equip(kubeconfig)


def _equip(kubeconfig: Path) -> ControlPlane:
    configuration = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    api = kube.Kube(client.ApiClient(configuration))
    run(api.create(CRDS, "", yaml.safe_load(CRD.read_text())))
    until("the CRD is established", lambda: _established(api))
    run(api.create(kube.RUNTIME_CLASSES, "", RUNTIME_CLASS))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return ControlPlane(kubeconfig, api, port)


def _established(api: kube.Kube) -> bool:
    crd = run(api.get(CRDS, "", f"{PLURAL}.{GROUP}")) or {}
    conditions = crd.get("status", {}).get("conditions", ())
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


class Operator:
    """The real operator in a process of its own."""

    def __init__(self, plane: ControlPlane, authority: pki.Authority, folder: Path, namespace: str) -> None:
        self._plane, self._namespace = plane, namespace
        self._tls = authority.issue(folder / "tls", ids.OPERATOR_SERVER_NAME)
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """Start it, also after a `kill`; `arguments` are further ones of its command line."""
        command = [*processes.BOUND, sys.executable, "-m", "podferry_operator", "--tls-dir", str(self._tls)]
        command += ["--agent-port", str(self._plane.agent_port), "--namespace", self._namespace, *arguments]
        environment = {**os.environ, "KUBECONFIG": str(self._plane.kubeconfig)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self._process = None

    def stop(self) -> None:
        """End it as Kubernetes would, and expect it to go at once."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(20) == 0, self.log.read_text()[-3000:]
            self._process = None


class Stage:
    """A namespace, the nodes "a-…" and "b-…" with fake agents, a kubelet, and a running pod "web" on the first."""

    def __init__(self, plane: ControlPlane, authority: pki.Authority, folder: Path, namespace: str) -> None:
        self.plane, self.api, self.namespace = plane, plane.api, namespace
        self.agents: dict[str, FakeAgent] = {}
        self._authority, self._folder = authority, folder
        subnet = next(_subnets)
        run(self.api.create(NAMESPACES, "", {"metadata": {"name": namespace}}))
        for number, letter in enumerate("ab", start=1):
            node, address = f"{letter}-{namespace}", f"127.8.{subnet}.{number}"
            tls = authority.issue(folder / node, ids.agent_server_name(node), address)
            FakeAgent(node, address, plane.agent_port, tls, self.agents).start()
            run(self.api.create(kube.NODES, "", node_object(node, address)))
        self.a, self.b = self.agents.values()
        self.kubelets = kubelets.Kubelets(self.api, namespace, self.agents)
        self.kubelets.start()

    def close(self) -> None:
        """Stop agents and kubelet; the namespace is left to the end of the control plane."""
        self.kubelets.stop()
        for agent in self.agents.values():
            agent.release()
            agent.stop()

    def impostor(self) -> FakeAgent:
        """Return an agent in place of the second, with a certificate of the right authority but for another node."""
        tls = self._authority.issue(self._folder / "impostor", ids.agent_server_name("elsewhere"), self.b.address)
        return FakeAgent("elsewhere", self.b.address, self.b.port, tls, {})

    def pod(self, name: str = "web", **spec: Any) -> Object:
        """Create a pod on the first node and wait until it runs."""
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "nodeName": self.a.node,
                "containers": [
                    {"name": "main", "image": "example/web:1", "ports": [{"name": "http", "containerPort": 80}]}
                ],
                **spec,
            },
        }
        run(self.api.create(kube.PODS, self.namespace, body))
        return until(f"pod {name} runs", lambda: self.running(name))

    def running(self, name: str) -> Object | None:
        """Return the pod if it is Ready."""
        pod = self.get(kube.PODS, name)
        ready = pod is not None and any(
            item["type"] == "Ready" and item["status"] == "True" for item in pod.get("status", {}).get("conditions", ())
        )
        return pod if ready else None

    def get(self, resource: kube.Resource, name: str) -> Object | None:
        """Return one object of the namespace."""
        return run(self.api.get(resource, self.namespace, name))

    def migrate(self, name: str = "move", pod: str = "web", node: str | None = None, **spec: Any) -> str:
        """Order a migration; returns its UID."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name},
            "spec": {"podName": pod, "targetNode": node or self.b.node, **spec},
        }
        return str(run(self.api.create(kube.MIGRATIONS, self.namespace, body))["metadata"]["uid"])

    def condition(self, kind: str, name: str = "move") -> Object:
        """Return a condition of a migration, empty when it has none."""
        body = self.get(kube.MIGRATIONS, name) or {}
        return next((item for item in body.get("status", {}).get("conditions", ()) if item["type"] == kind), {})

    def end(self, name: str = "move", seconds: float = SECONDS) -> Object:
        """Wait until a migration is finished and let go; returns its status."""

        def over() -> Object | None:
            body = self.get(kube.MIGRATIONS, name) or {}
            final = any(
                item["type"] == "Succeeded" and item["status"] != "Unknown"
                for item in body.get("status", {}).get("conditions", ())
            )
            return body if final and not body["metadata"].get("finalizers") else None

        return dict(until(f"migration {name} is over: {self.condition('Succeeded', name)}", over, seconds)["status"])

    def events(self, kind: str, name: str) -> list[str]:
        """Return the reasons of the Events about an object, in order."""
        found = run(self.api.list(kube.EVENTS, self.namespace, fields=f"involvedObject.kind={kind}"))
        mine = [event for event in found if event["involvedObject"]["name"] == name]
        return [str(event["reason"]) for event in sorted(mine, key=lambda e: int(e["metadata"]["resourceVersion"]))]


def node_object(name: str, address: str) -> Object:
    """Return a node that is Ready."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }
