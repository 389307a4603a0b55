"""What can be set on an agent: one dataclass, each field with its unit, default and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one agent; the command line has an option for each (`--node`, `--run-dir`, …)."""

    node: str
    """Name of the Kubernetes node: it must be the one in the certificate, peers and operator check it."""
    listen: str = "0.0.0.0:7443"
    """host:port of the gRPC server. Peers on other nodes must reach it; every call is mutual TLS."""
    tls_dir: Path = Path("/etc/podferry/tls")
    """Directory with ca.crt, tls.crt and tls.key."""
    run_dir: Path = Path("/run/podferry")
    """Hook socket, markers and image sets. Must be tmpfs: images are the memory of somebody's process."""
    state_dir: Path = Path("/var/lib/podferry")
    """The journal, and audits. Must survive a reboot of the node, for a decision to commit does."""
    cri: str = "unix:///run/containerd/containerd.sock"
    """The container runtime's CRI endpoint."""
    runc: Path = Path("/usr/sbin/runc")
    """The OCI runtime that really runs containers."""
    runc_root: Path = Path("/run/containerd/runc/k8s.io")
    """runc's state directory as containerd's CRI plugin uses it."""

    @property
    def journal(self) -> Path:
        """Return the directory of the journals."""
        return self.state_dir / "journal"

    @property
    def audits(self) -> Path:
        """Return the directory of the files with every connection's fate."""
        return self.state_dir / "audit"

    @property
    def images(self) -> Path:
        """Return the directory of image sets."""
        return self.run_dir / "images"

    @property
    def hook_socket(self) -> Path:
        """Return the socket on which runtime hooks ask."""
        return self.run_dir / "hook.sock"
