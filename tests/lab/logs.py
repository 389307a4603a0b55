"""Bring the logs of all parts of a lab together in one folder."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.lab import layout, node

from podferry import errors

_GLIMPSES = {
    "processes.txt": ("ps", "-eo", "pid,ppid,stat,wchan:20,etime,args"),
    "network.txt": ("sh", "-c", "ip address; ip neigh; bridge fdb; ss -tanpoie; nft list ruleset; conntrack -L"),
    "containers.txt": ("sh", "-c", "ctr -n k8s.io containers list; ctr -n k8s.io tasks list"),
    "kernel.txt": ("dmesg",),
    "agent-files.txt": ("sh", "-c", "find /run/podferry /var/lib/podferry -ls; tail -n +1 /var/lib/podferry/journal/*"),
}
"""What a node looks like at this moment: file → the command that shows it."""


def collect(folder: Path, nodes: Iterable[node.Node], target: Path) -> Path:
    """Copy what lies in the lab's `folder` on the host and in every node into `target`, emptied before."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for pattern in ("*.log", "*.console"):
        for path in folder.glob(pattern):
            shutil.copy(path, target / path.name)
    for one in nodes:
        with contextlib.suppress(errors.PodferryError):
            _collect_node(one, target / one.name)
    return target


def _collect_node(one: node.Node, target: Path) -> None:
    target.mkdir()
    files = one.run(
        "find",
        layout.LOG_DIR,
        "/var/log/pods",
        "/run/podferry",
        "-name",
        "*.log",
        "-type",
        "f",
        check=False,
        timeout=15,
    )
    for path in files.out.split():
        with contextlib.suppress(errors.Permanent):
            (target / path.strip("/").replace("/", "_").removeprefix("var_log_")).write_bytes(one.get(path))
    for name, argv in _GLIMPSES.items():
        shown = one.run(*argv, check=False, timeout=15)
        (target / name).write_text(shown.out + shown.err)
