"""The pods' part of the cgroup tree (version 2, cgroupfs driver).

As the real kubelet does, this one kills what runs in the cgroup of a pod that it does not know, and removes it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

log = logging.getLogger(__name__)

TIERS = ("", "burstable", "besteffort")


def found(root: Path) -> dict[str, Path]:
    """Return pod uid → the pod's cgroup, of every pod's cgroup on the node."""
    folders = (folder for tier in TIERS for folder in (root / "kubepods" / tier).glob("pod*"))
    return {folder.name.removeprefix("pod"): folder for folder in folders}


def remove_orphans(root: Path, known: Collection[str]) -> None:
    """Kill and remove the cgroups of pods not in `known`; what does not go at once is left for the next time."""
    for uid, folder in found(root).items():
        if uid not in known:
            remove(folder)


def remove(folder: Path) -> None:
    """Kill everything in a cgroup and remove it with all below it, as far as that goes at once."""
    try:
        populated = "populated 1" in (folder / "cgroup.events").read_text()
        if populated:
            log.warning("killing what runs in %s, which belongs to no pod", folder)
            (folder / "cgroup.kill").write_text("1")
        for below in sorted(folder.rglob("*/"), reverse=True):
            below.rmdir()
        folder.rmdir()
    except OSError as error:
        log.debug("%s is not gone yet: %s", folder, error)
