"""What the operator can be told from outside; __main__ fills it from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one operator process."""

    tls_dir: Path
    """Folder with ca.crt, tls.crt and tls.key, the names under which cert-manager mounts them. No default: there is no
    plaintext mode."""

    agent_port: int = 7443
    """TCP port of the agent on every node; one for all, since an agent is found by its node's address."""

    namespaces: tuple[str, ...] = ()
    """Namespaces whose migrations are served; all of them when empty."""

    metrics_port: int = 0
    """TCP port of /metrics; 0 serves none, which suits a laptop."""

    liveness_port: int = 0
    """TCP port of /healthz; 0 serves none."""
