"""The Node object and its lease: what the node is, and that it is alive."""

from __future__ import annotations

import logging
import os
import platform
import socket
import threading
import time
from pathlib import Path
from urllib import parse

from tests.lab import kubehttp
from tests.lab.kubelet import cri, pods, settings, times

log = logging.getLogger(__name__)

KUBELET_VERSION = "v1.36.0"
MAX_PODS = 110
LEASE_SECONDS = 40


def memory() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def address_towards(url: str) -> str:
    """Return the address from which this machine reaches the host in `url`."""
    target = parse.urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((target.hostname or "", target.port or 80))
        return str(probe.getsockname()[0])


def described(name: str, ip: str, runtime: str) -> pods.Json:
    """Return the Node object of this machine, but for its conditions."""
    amounts = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory() // 1024}Ki", "pods": str(MAX_PODS)}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": machine},
        },
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}],
            "capacity": amounts,
            "allocatable": amounts,
            "nodeInfo": {
                "architecture": machine,
                "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
                "containerRuntimeVersion": runtime,
                "kernelVersion": platform.release(),
                "kubeProxyVersion": KUBELET_VERSION,
                "kubeletVersion": KUBELET_VERSION,
                "machineID": name,
                "operatingSystem": "linux",
                "osImage": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
                "systemUUID": name,
            },
        },
    }


def conditions(runtime: dict[str, str], before: list[pods.Json], now: int) -> list[pods.Json]:
    """Return the node's conditions.

    Args:
        runtime: what is wrong with the runtime, by the runtime's word for it; empty when all is well.
        before: the conditions that stand in the API; transition times are kept where nothing changed.
        now: nanoseconds since the epoch.
    """
    wanted = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
    if runtime:
        wrong = "; ".join(f"{word}: {message}" for word, message in sorted(runtime.items()))
        wanted[-1] = ("Ready", "False", "KubeletNotReady", wrong)
    since = {(one["type"], one["status"]): one.get("lastTransitionTime") for one in before}
    stamp = times.text(now)
    return [
        {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": since.get((kind, value)) or stamp,
        }
        for kind, value, reason, message in wanted
    ]


class Heart:
    """Registers the node and keeps it alive in the API."""

    def __init__(self, client: kubehttp.Client, runtime: cri.Runtime, given: settings.Settings, ip: str) -> None:
        self._client = client
        self._runtime = runtime
        self._settings = given
        self._node = described(given.node, ip, runtime.version())
        self._told: list[tuple[str, str, str]] = []

    def run(self, ended: threading.Event) -> None:
        """Beat until `ended` is set: the lease every time, the status when it changed."""
        while True:
            try:
                self._beat()
            except (kubehttp.ApiError, cri.CriError) as error:
                self._told = []
                log.warning("no heartbeat: %s", error)
            if ended.wait(self._settings.lease if self._told else kubehttp.RETRY_SECONDS):
                return

    def _beat(self) -> None:
        wrong = {kind: one.message or one.reason for kind, one in self._runtime.conditions().items() if not one.status}
        path = f"/api/v1/nodes/{self._settings.node}"
        if not self._told:
            self._register(path)
        before = self._client.get(path)["status"].get("conditions") or []
        wanted = conditions(wrong, before, time.time_ns())
        said = [(one["type"], one["status"], one["message"]) for one in wanted]
        if said != self._told:
            self._client.merge(f"{path}/status", {"status": {**self._node["status"], "conditions": wanted}})
        self._renew()
        self._told = said

    def _register(self, path: str) -> None:
        """Make the node, or take over the one of an earlier life with labels that others gave it."""
        try:
            self._client.create("/api/v1/nodes", self._node)
        except kubehttp.ApiError as error:
            if error.code != 409:
                raise
            self._client.merge(path, {"metadata": {"labels": self._node["metadata"]["labels"]}})

    def _renew(self) -> None:
        name = self._settings.node
        collection = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": times.micro(time.time_ns()),
        }
        try:
            self._client.merge(f"{collection}/{name}", {"spec": spec})
        except kubehttp.ApiError as error:
            if error.code != 404:
                raise
            meta = {"name": name, "namespace": "kube-node-lease"}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            self._client.create(collection, lease)
