"""The clusters that API probes run against, and the objects that they make there."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import yaml
from tests.support import control_plane, kube_http, processes
from tests.support.kube_http import Http, Json
from tests.support.kubectl import Kubectl

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "kubeapi"
FERRIES = "/apis/probe.podferry.dev/v1"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A running API."""

    name: str
    http: Http
    kubeconfig: pathlib.Path
    collects_garbage: bool


@dataclasses.dataclass(frozen=True)
class Space:
    """A namespace of a probe's own, with the paths of the kinds that probes use."""

    cluster: Cluster
    name: str

    @property
    def http(self) -> Http:
        """Plain HTTP."""
        return self.cluster.http

    @property
    def kubectl(self) -> Kubectl:
        """The command line."""
        return Kubectl(self.cluster.kubeconfig, self.name)

    def path(self, plural: str, name: str = "") -> str:
        """Return the path of a core collection or object, or of a ferry."""
        base = FERRIES if plural == "ferries" else "/api/v1"
        return f"{base}/namespaces/{self.name}/{plural}{f'/{name}' if name else ''}"

    def create(self, plural: str, body: Json) -> Json:
        """Create an object that must be accepted."""
        return self.http.expect(201, "POST", self.path(plural), body)


def ferry(name: str = "one", **spec: Any) -> Json:
    """Return a minimal object of the custom kind."""
    spec = {"harbour": "brest"} | spec
    return {"apiVersion": "probe.podferry.dev/v1", "kind": "Ferry", "metadata": {"name": name}, "spec": spec}


def config_map(name: str = "one", **data: str) -> Json:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str = "one", **spec: Any) -> Json:
    """Return a minimal pod."""
    spec = {"containers": [{"name": "main", "image": "busybox:1.36"}]} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@contextlib.contextmanager
def embedded(folder: pathlib.Path) -> Iterator[Cluster]:
    """Run the embedded API as its users do: as a process, found by its kubeconfig."""
    kubeconfig, log = folder / "kubeconfig", folder / "log"
    command = [sys.executable, "-m", "tests.lab.kubeapi", "--write-kubeconfig", str(kubeconfig), "--debug"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        log.open("wb") as output,
        processes.running(command, cwd=ROOT, stdout=output, stderr=output, env=environment) as process,
    ):
        kube_http.eventually(lambda: kubeconfig.exists() or process.poll() is not None, what="kubeconfig")
        assert process.poll() is None, log.read_text()
        url = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        cluster = Cluster("embedded", Http(url, "any", None), kubeconfig, collects_garbage=True)
        _define(cluster)
        yield cluster
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()


@contextlib.contextmanager
def real(folder: pathlib.Path) -> Iterator[Cluster]:
    """Run a real control plane."""
    with control_plane.running(folder) as plane:
        http = Http(plane.url, plane.token, plane.ca_file)
        cluster = Cluster("real", http, plane.kubeconfig, plane.controllers)
        _define(cluster)
        yield cluster


def _define(cluster: Cluster) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    cluster.http.expect(201, "POST", path, yaml.safe_load((DATA / "definition.yaml").read_text()))

    def served() -> bool:
        return cluster.http.call("GET", f"{FERRIES}/ferries").status == 200

    kube_http.eventually(served, what="the custom kind is served")
