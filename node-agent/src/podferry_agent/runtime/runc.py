"""runc's own book-keeping of a container: ROOT/<id>/state.json. Read here, never written: it is runc's.

Format: runc libcontainer `State` and `Config`, the same throughout 1.x.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podferry import errors

STATE = "state.json"


@dataclass(frozen=True, slots=True)
class State:
    """What runc remembers of one container."""

    pid: int
    """Its init process, in our PID namespace."""
    cgroup: Path
    """Absolute path below the cgroup2 mount."""
    bundle: Path


def load(root: Path, container_id: str) -> State:
    """Read the state of a container below runc's `root`.

    Raises:
        Permanent: runc knows no such container, or the host has no unified cgroup hierarchy (reason ContainerGone).
    """
    try:
        document = json.loads((root / container_id / STATE).read_bytes())
        labels = dict(label.split("=", 1) for label in document["config"]["labels"])
        return State(int(document["init_process_pid"]), Path(document["cgroup_paths"][""]), Path(labels["bundle"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.Permanent(f"runc has no state of {container_id}: {error!r}", reason="ContainerGone") from error


def with_annotation(root: Path, container_id: str, key: str, value: str, private: Path) -> None:
    """Write a copy of a container's state below another root, `private`, in which one annotation is set.

    Raises:
        Permanent: runc knows no such container (reason ContainerGone).
    """
    try:
        document: dict[str, Any] = json.loads((root / container_id / STATE).read_bytes())
        labels = [label for label in document["config"]["labels"] if not label.startswith(f"{key}=")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.Permanent(f"runc has no state of {container_id}: {error!r}", reason="ContainerGone") from error
    document["config"]["labels"] = [*labels, f"{key}={value}"]
    directory = private / container_id
    directory.mkdir(mode=0o700, parents=True)
    (directory / STATE).write_text(json.dumps(document))
