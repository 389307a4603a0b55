"""The way into the engine for who runs a migration: opens a half of the cut in a pod's network namespace, and closes
it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from podferry_agent.connections import source, target
from podferry_agent.net import namespace

HOST = Path("/proc/self/ns/net")
"""The namespace with the bridges: the agent runs in the host's."""


class Engine:
    """`migration.host.Connections` on this machine's kernel."""

    @contextlib.contextmanager
    def source(self, netns: Path, name: str) -> Iterator[source.Source]:
        """Open the source's half."""
        with namespace.NetworkNamespace(netns) as pod, namespace.NetworkNamespace(HOST) as host:
            half = source.Source(pod, name, host)
            try:
                yield half
            finally:
                half.close()

    @contextlib.contextmanager
    def target(self, netns: Path, name: str) -> Iterator[target.Target]:
        """Open the target's half."""
        with namespace.NetworkNamespace(netns) as pod, namespace.NetworkNamespace(HOST) as host:
            half = target.Target(pod, name, host)
            try:
                yield half
            finally:
                half.close()

    def recover(self, netns: Path, name: str, containers: Mapping[str, Sequence[int]]) -> None:
        """Undo what an earlier life of the agent may have done to the connections of these containers' processes."""
        with namespace.NetworkNamespace(netns) as pod:
            source.recover(pod, name, [pid for pids in containers.values() for pid in pids])
