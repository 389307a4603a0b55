"""The lab's cables: a bridge with one tap per node in a network namespace, and a second namespace for clients.

All of it is one layer-2 network. The namespaces' names carry the lab's tag, so that labs do not meet.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.lab import command, layout

from podferry import errors

_Result = TypeVar("_Result")
_CLONE_NEWNET = 0x40000000


class Network:
    """The namespaces of one lab; `tag` is a short word that no other lab uses."""

    def __init__(self, tag: str) -> None:
        self.namespace = f"podferry-{tag}"
        """Where the bridge, the taps, QEMU, the Kubernetes API and the operator are."""
        self.client_namespace = f"podferry-{tag}-client"

    def create(self, nodes: Sequence[str]) -> None:
        """Make both namespaces, the bridge, a veth to the clients and a tap per node."""
        for namespace in (self.namespace, self.client_namespace):
            command.run(["ip", "netns", "add", namespace])
        prefix = layout.PREFIX
        taps = [
            line
            for node in nodes
            for line in (f"tuntap add dev {tap(node)} mode tap", f"link set {tap(node)} master br0 addrgenmode none up")
        ]
        self._ip(
            self.namespace,
            "link set lo up",
            "link add br0 type bridge forward_delay 0",
            f"address add {layout.API_ADDRESS}/{prefix} dev br0",
            "link set br0 up",
            f"link add client type veth peer name eth0 netns {self.client_namespace}",
            "link set client master br0 up",
            *taps,
        )
        self._ip(
            self.client_namespace,
            "link set lo up",
            f"address add {layout.CLIENT_ADDRESS}/{prefix} dev eth0",
            "link set eth0 up",
        )

    def cut(self, node: str) -> None:
        """Let no frame in or out of a node; it keeps its carrier, as when a switch behind its own fails."""
        self._ip(self.namespace, f"link set {tap(node)} down")

    def restore(self, node: str) -> None:
        """Undo `cut`."""
        self._ip(self.namespace, f"link set {tap(node)} up")

    def listen(self, address: str, port: int) -> socket.socket:
        """Return a TCP socket that listens inside the lab's namespace, for a process outside to inherit."""
        return _inside(self.namespace, lambda: socket.create_server((address, port)))

    def _ip(self, namespace: str, *lines: str) -> None:
        command.run(["ip", "-n", namespace, "-batch", "-"], stdin="".join(f"{line}\n" for line in lines))


def tap(node: str) -> str:
    """Return the name of a node's tap, at most 15 characters."""
    return f"tap-{node}"[:15]


def inside(namespace: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` inside a network namespace."""
    return ["ip", "netns", "exec", namespace, *argv]


def delete(namespace: str) -> None:
    """Remove a namespace and all that is in it, if it exists."""
    path = Path("/run/netns", namespace)
    if path.exists():
        try:
            command.run(["ip", "netns", "delete", namespace])
        except errors.Permanent:
            if path.exists():  # else another process was quicker
                raise


def _inside(namespace: str, do: Callable[[], _Result]) -> _Result:
    """Call `do` in a thread that is in `namespace`; what it opens stays there."""
    results: list[_Result] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with Path("/run/netns", namespace).open() as handle:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(handle.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace)
            results.append(do())
        except BaseException as error:  # handed to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
