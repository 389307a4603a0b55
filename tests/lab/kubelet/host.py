"""What every pod's worker shares: the settings, the API, the runtime, and facts about the node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lab import kubehttp
from tests.lab.kubelet import cri, events, pods, settings


@dataclass(frozen=True)
class Host:
    """One node, as its pods see it."""

    settings: settings.Settings
    client: kubehttp.Client
    runtime: cri.Runtime
    events: events.Recorder
    ip: str
    memory: int
    """Bytes."""

    def handler(self, pod: pods.Json) -> str:
        """Return the runtime handler that the pod's RuntimeClass names; empty: the runtime's default.

        Raises:
            kubehttp.ApiError: 404 when there is no such RuntimeClass.
        """
        name = pod["spec"].get("runtimeClassName")
        if not name:
            return ""
        return str(self.client.get(f"/apis/node.k8s.io/v1/runtimeclasses/{name}")["handler"])

    def resolv_conf(self) -> str:
        """Return the text of the node's resolv.conf; a node may have none."""
        path = Path("/etc/resolv.conf")
        return path.read_text() if path.exists() else ""
