"""What can be set from outside, with the real kubelet's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """One kubelet's settings; times in seconds."""

    node: str
    """Name of the Node object, and the value of spec.nodeName of the pods to run."""

    api: str
    """URL of the API server."""

    cri: str = "unix:///run/containerd/containerd.sock"

    node_ip: str = ""
    """InternalIP; empty: the address from which the API server is reached."""

    root: Path = Path("/var/lib/kubelet")
    """Volumes, hosts files, termination messages of pods."""

    logs: Path = Path("/var/log/pods")

    cgroups: Path = Path("/sys/fs/cgroup")

    runtime_request_timeout: float = 120.0
    """For every CRI call but the long ones: a pod sandbox may take twice as long, a stop its grace period longer."""

    relist: float = 1.0
    """Between two looks at what the runtime has."""

    housekeeping: float = 2.0
    """Between two removals of cgroups that belong to no pod."""

    retry: float = 10.0
    """Until a pod whose sync failed is synced again, unless something changes before."""

    lease: float = 10.0
    """Between two renewals of the node's lease."""
