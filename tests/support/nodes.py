"""What a node's containerd really runs, asked in the node and not in the API."""

from __future__ import annotations

from tests.lab import node as lab_node

_CTR = ("ctr", "--namespace", "k8s.io")


def tasks(node: lab_node.Node, **labels: str) -> dict[str, str]:
    """Return {container id: status} of the tasks whose containers have all these labels.

    Labels are the CRI's without their prefix: `container_name="server"` is io.kubernetes.container.name. A status is
    containerd's word, as RUNNING, PAUSED or STOPPED.
    """
    words = [f'labels."io.kubernetes.{key.replace("_", ".")}"=={value}' for key, value in labels.items()]
    wanted = set(node.run(*_CTR, "containers", "list", "-q", ",".join(words)).out.split())
    rows = [line.split() for line in node.run(*_CTR, "tasks", "list").out.splitlines()[1:]]
    return {row[0]: row[-1] for row in rows if row and row[0] in wanted}
