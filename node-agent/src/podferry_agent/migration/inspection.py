"""Preflight on the source node: can this pod move, and what would become of each of its sockets? Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from podferry import errors
from podferry.tcp import inventory
from podferry.wire import agent_pb2
from podferry_agent.connections import backend
from podferry_agent.runtime import pods

PATIENCE_SECONDS = 2.0
"""How long a socket that no process holds (half open, not accepted yet, closing) may take to be something else."""

LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Inspector:
    """Looks at pods of this node."""

    view: pods.PodView
    check: Callable[[pods.Pod], object]
    """Raises Permanent for what would make saving fail: `process.checkpoint.Checkpointer.check`."""
    pids: Callable[[Path], list[int]]
    connections: backend.Backend

    def inspect(self, uid: str) -> agent_pb2.Inspection:
        """Report on the pod with `uid`.

        Raises:
            Permanent: no such pod runs here (reason PodNotFound).
        """
        pod = self.view.find(uid)
        processes = {container.name: self.pids(container.cgroup) for container in pod.containers}
        with self.connections.open(pod.netns, "inspection") as connections:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while _passing(found := connections.inspect(processes)) and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
        return agent_pb2.Inspection(
            problems=self._problems(pod),
            containers=[container.name for container in pod.containers],
            memory_bytes=sum(_memory(container.cgroup) for container in pod.containers),
            connections=len(found.movable),
            unmovable=[_unmovable(item) for item in found.unmovable],
        )

    def _problems(self, pod: pods.Pod) -> list[agent_pb2.Problem]:
        try:
            self.check(pod)
        except errors.Permanent as error:
            return [agent_pb2.Problem(reason=error.reason, message=error.message)]
        return []


def _passing(found: inventory.Inventory) -> bool:
    return any(item.fd < 0 for item in found.unmovable)


def _memory(cgroup: Path) -> int:
    """Return the bytes of anonymous memory charged to a cgroup: what will have to be sent, near enough."""
    for line in (cgroup / "memory.stat").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == "anon":
            return int(value)
    return 0


def _unmovable(item: inventory.Unmovable) -> agent_pb2.Unmovable:
    return agent_pb2.Unmovable(
        container=item.container,
        process=item.process,
        pid=item.pid,
        fd=item.fd,
        socket=item.socket,
        reason=item.reason,
        message=item.message,
    )
