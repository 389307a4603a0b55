"""The services of a node: what is started how, started again when it ends, and where its log is.

A small stand-in for an init system. A service runs in a cgroup of its own; when it ends, what is left in the group is
killed before the next start, as a container runtime would do, except where `keep_children` says otherwise.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab import layout

CGROUPS = Path("/sys/fs/cgroup/lab")
LOGS = Path(layout.LOG_DIR)
RESTART_DELAY = 0.2
"""Seconds from an end to the next start; `HASTY_DELAY` if it lived for less than that."""
HASTY_DELAY = 0.8

_JOIN_GROUP = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'


class Service(NamedTuple):
    """One service; `{node}` in its arguments is the node's name."""

    name: str
    argv: tuple[str, ...]
    keep_children: bool = False
    """Whether children outlive it: containerd's shims do."""
    environment: tuple[tuple[str, str], ...] = ()
    ready: Callable[[], bool] = lambda: True
    """Whether it serves; asked while it runs."""


def listening(port: int) -> Callable[[], bool]:
    """Return a check that something accepts connections on a local TCP port."""

    def check() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    return check


def _containerd_ready() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect("/run/containerd/containerd.sock")
        return True
    return False


SERVICES = {
    service.name: service
    for service in (
        Service(
            "containerd",
            ("/usr/bin/containerd",),
            keep_children=True,
            # Also for its shims and runc: short-lived or small, so they need not collect their garbage that often.
            environment=(("GOGC", "400"),),
            ready=_containerd_ready,
        ),
        Service(
            "kubelet",
            (
                *("/usr/bin/python3", "-m", "tests.lab.kubelet", "--node", "{node}"),
                *("--api", f"http://{layout.API_ADDRESS}:{layout.API_PORT}"),
            ),
        ),
        Service(
            "agent",
            (
                *("/usr/bin/python3", "-m", "podferry_agent", "--node", "{node}"),
                *("--listen", f"0.0.0.0:{layout.AGENT_PORT}", "--tls-dir", layout.TLS_DIR),
            ),
            ready=listening(layout.AGENT_PORT),
        ),
    )
}


class Supervisor:
    """Keeps one service running from `start` to `stop`."""

    def __init__(self, service: Service, node: str) -> None:
        self._service = service
        self._argv = [word.format(node=node) for word in service.argv]
        self._group = CGROUPS / service.name
        self._wanted = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._starts = 0
        self._last_exit: int | None = None

    def start(self, environment: Mapping[str, str], arguments: list[str]) -> None:
        """Start it, with further environment variables and arguments; they hold until the next `start`.

        Raises:
            ValueError: it runs already.
        """
        if self._thread is not None and self._thread.is_alive():
            raise ValueError(f"{self._service.name} runs already")
        self._wanted.set()
        merged = {**os.environ, **dict(self._service.environment), **environment}
        self._thread = threading.Thread(target=self._run, args=(merged, arguments), daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End it with SIGTERM, with SIGKILL when it takes longer than `seconds`; it is not started again."""
        self._wanted.clear()
        self.signal(signal.SIGTERM)
        thread = self._thread
        if thread is None:
            return
        thread.join(seconds)
        if thread.is_alive():
            self.signal(signal.SIGKILL)
            thread.join()

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs. After SIGKILL it comes again by itself."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def status(self) -> dict[str, Any]:
        """Return pid (None when it is not running), number of starts, last exit code, and whether it serves."""
        process = self._process
        running = process is not None and process.poll() is None
        return {
            "pid": process.pid if process is not None and running else None,
            "starts": self._starts,
            "last_exit": self._last_exit,
            "ready": running and self._service.ready(),
        }

    def _run(self, environment: Mapping[str, str], arguments: list[str]) -> None:
        self._group.mkdir(exist_ok=True)
        while self._wanted.is_set():
            begin = time.monotonic()
            with (LOGS / f"{self._service.name}.log").open("ab") as log:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _JOIN_GROUP, "sh", self._group, *self._argv, *arguments],
                    env=environment,
                    cwd=layout.GUEST_CODE,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
                self._starts += 1
                self._last_exit = self._process.wait()
                self._process = None
                log.write(f"-- {self._service.name} ended with {self._last_exit}\n".encode())
            if not self._service.keep_children:
                (self._group / "cgroup.kill").write_text("1")
            if self._wanted.is_set():
                time.sleep(RESTART_DELAY if time.monotonic() - begin > HASTY_DELAY else HASTY_DELAY)
