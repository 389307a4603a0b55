"""What a migration sees of the connection engine, whichever way the connections are moved.

`repair` needs nothing but a stock kernel. A backend on a kernel module will implement the same and is chosen by
capability.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from podferry_agent.connections import source, target
from podferry_agent.net import namespace

HOST_NAMESPACE = Path("/proc/self/ns/net")


class Backend(Protocol):
    """A way to move connections."""

    name: str

    def open(self, netns: Path, name: str) -> contextlib.AbstractContextManager[source.Source]:
        """Stand in a pod's network namespace with the source's half; `undo` must come before the context ends."""

    def recover(self, netns: Path, name: str, pids: Sequence[int]) -> None:
        """On the source: undo what an engine that died did to the connections of these processes; idempotent."""

    def open_target(self, netns: Path, name: str) -> contextlib.AbstractContextManager[target.Target]:
        """Stand in a pod's network namespace with the target's half."""


class RepairBackend:
    """Connections moved with TCP_REPAIR system calls."""

    name = "repair"

    def __init__(self, host: Path = HOST_NAMESPACE) -> None:
        """Use `host` as the namespace of bridges and connection tracking: the agent's own."""
        self._host = host

    @contextlib.contextmanager
    def open(self, netns: Path, name: str) -> Iterator[source.Source]:
        """See Backend."""
        with namespace.NetworkNamespace(netns) as pod, namespace.NetworkNamespace(self._host) as host:
            engine = source.Source(pod, name, host)
            try:
                yield engine
            finally:
                engine.close()

    def recover(self, netns: Path, name: str, pids: Sequence[int]) -> None:
        """See Backend."""
        with namespace.NetworkNamespace(netns) as pod:
            source.recover(pod, name, pids)

    @contextlib.contextmanager
    def open_target(self, netns: Path, name: str) -> Iterator[target.Target]:
        """See Backend."""
        with namespace.NetworkNamespace(netns) as pod, namespace.NetworkNamespace(self._host) as host:
            engine = target.Target(pod, name, host)
            try:
                yield engine
            finally:
                engine.close()
