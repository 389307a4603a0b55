"""A small network for tests: a switch, a pod in two places, and a client, each a network namespace of this machine.

    source  10.99.0.2, plugged into the bridge           target  the same address, held: plugged in by the cut
    client  10.99.0.3                                    switch  bridge br0; stands for the nodes' own namespace

Names carry this process's id, so that several test runs on one machine never meet.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path
from typing import Self

POD, POD6 = "10.99.0.2", "fd99::2"
CLIENT, CLIENT6 = "10.99.0.3", "fd99::3"
BRIDGE = "br0"
_NUMBERS = itertools.count()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


class Network:
    """Four namespaces and three cables; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        prefix = f"pf{os.getpid()}n{next(_NUMBERS)}"
        self.switch, self.source, self.target, self.client = (f"{prefix}{role}" for role in ("w", "s", "t", "c"))
        self._ports: dict[str, str] = {}

    def __enter__(self) -> Self:
        for name in self._all:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            # Tail loss probes send a last segment twice on a busy machine; nothing else may be taken for one of them.
            self.set(name, "net/ipv4/tcp_early_retrans", 0)
        _ip("-n", self.switch, "link", "add", BRIDGE, "type", "bridge")
        _ip("-n", self.switch, "link", "set", BRIDGE, "up")
        self._plug(self.source, "source", POD, POD6)
        self._plug(self.target, "target", POD, POD6, held=True)
        self._plug(self.client, "client", CLIENT, CLIENT6)
        return self

    def set(self, name: str, setting: str, value: int) -> None:
        """Set a kernel setting of one namespace, as in "net/ipv4/tcp_timestamps"."""
        subprocess.run([*self.inside(name), "sh", "-c", f"echo {value} > /proc/sys/{setting}"], check=True)

    def hold(self, name: str) -> None:
        """Mark the host side of a namespace's cable as held."""
        _ip("-n", self.switch, "link", "set", self._ports[name], "alias", f"podferry-hold:{BRIDGE}")

    def _plug(self, name: str, port: str, address: str, address6: str, *, held: bool = False) -> None:
        self._ports[name] = port
        _ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        if held:
            self.hold(name)
            _ip("-n", self.switch, "link", "set", port, "up")
        else:
            _ip("-n", self.switch, "link", "set", port, "master", BRIDGE, "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "addr", "add", f"{address6}/64", "dev", "eth0", "nodad")
        _ip("-n", name, "link", "set", "eth0", "up")

    def __exit__(self, *_: object) -> None:
        for name in self._all:
            subprocess.run(["ip", "netns", "del", name], check=False)

    @property
    def _all(self) -> tuple[str, ...]:
        return self.switch, self.source, self.target, self.client

    @staticmethod
    def path(name: str) -> Path:
        """Return the path of a namespace."""
        return Path("/run/netns") / name

    @staticmethod
    def inside(name: str) -> list[str]:
        """Return the words that run a command in a namespace."""
        return ["ip", "netns", "exec", name]
