"""A pod's process and its move between two network namespaces, without CRIU: see tests.net.peers.server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.support import netns

from podferry_agent.connections import audit, backend

ROOT = Path(__file__).resolve().parents[2]
NAME = "podferry-0123456789ab"


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `condition` holds; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} after {seconds} s"
        time.sleep(0.002)


class Process:
    """A process in a network namespace and a pid namespace of its own, where it is always number 2."""

    def __init__(self, where: str, *words: str) -> None:
        shell = ["unshare", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", '"$@" & wait', "sh"]
        self._popen = subprocess.Popen(
            [*netns.Network.inside(where), *shell, sys.executable, "-m", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._pid = 0

    @property
    def pid(self) -> int:
        """The process id on this machine."""
        if not self._pid:
            shell = self._child(self._popen.pid)
            self._pid = self._child(shell)
        return self._pid

    @staticmethod
    def _child(pid: int) -> int:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        wait_for("child process", lambda: bool(children.read_text().split()))
        return int(children.read_text().split()[0])

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def state(self) -> str:
        """Return its state letter as in /proc/<pid>/stat."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def freeze(self) -> None:
        """Have it stop itself between two turns."""
        os.kill(self.pid, signal.SIGUSR1)
        wait_for("stop", lambda: self.state() == "T")

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill it."""
        self._popen.kill()
        self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


class Client:
    """A verifying client."""

    def __init__(self, where: str, mode: str, count: int, address: str = netns.POD) -> None:
        self._popen = subprocess.Popen(
            [*netns.Network.inside(where), sys.executable, "-m", "tests.net.peers.client", address, mode, str(count)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def connected(self) -> None:
        """Wait until all its connections stand."""
        assert self._popen.stdout is not None
        assert self._popen.stdout.readline().strip() == "connected"

    def finish(self) -> dict[str, Any]:
        """End it and return its report."""
        self._popen.send_signal(signal.SIGTERM)
        output, _ = self._popen.communicate(timeout=30)
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        return report

    def kill(self) -> None:
        """Kill it."""
        self._popen.kill()
        self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


@dataclass
class Timings:
    """What a move took, in seconds."""

    marks: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure one step."""
        start = time.monotonic()
        yield
        self.marks[name] = time.monotonic() - start

    def __str__(self) -> str:
        return " ".join(f"{name} {seconds * 1000:.2f}" for name, seconds in self.marks.items()) + " ms"


class Scene:
    """A server with its clients, ready to be moved; a context manager."""

    def __init__(self, folder: Path, mode: str = "echo", count: int = 1, address: str = netns.POD) -> None:
        self.network = netns.Network()
        self._memory, self._mode, self._count, self._address = folder / "memory", mode, count, address
        self.timings = Timings()
        self.audits: list[audit.ConnectionAudit] = []
        self._ends: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        self.network.__enter__()
        words = ("tests.net.peers.server", str(self._memory), self._address, "first", self._mode, str(self._count))
        self.first = Process(self.network.source, *words)
        self._ends.append(self.first.end)
        self.backend = backend.RepairBackend(self.network.path(self.network.switch))
        wait_for("listener", self._listens)
        self.client = Client(self.network.client, self._mode, self._count, self._address)
        self._ends.append(self.client.kill)
        self.client.connected()
        assert self.first.line() == "serving"
        return self

    def _listens(self) -> bool:
        command = [*netns.Network.inside(self.network.source), "ss", "-Hltn"]
        return bool(subprocess.run(command, check=True, capture_output=True).stdout)

    def __exit__(self, *_: object) -> None:
        for end in reversed(self._ends):
            end()
        self.network.__exit__()

    def stand_in(self) -> Process:
        """Make the process that stands for the restored one, stopped."""
        second = Process(self.network.target, "tests.net.peers.server", str(self._memory), self._address, "second")
        self._ends.append(second.end)
        assert second.line() == "ready"
        wait_for("stop", lambda: second.state() == "T")
        return second

    def containers(self, process: Process) -> dict[str, list[int]]:
        """Return the pod's only container."""
        return {"app": [process.pid]}

    @property
    def source_path(self) -> Path:
        """The source pod's network namespace."""
        return self.network.path(self.network.source)

    @property
    def target_path(self) -> Path:
        """The target pod's network namespace."""
        return self.network.path(self.network.target)

    def move(self, frozen_seconds: float = 1.0, *, flush: bool = True, lock: bool = True, wake: bool = True) -> None:
        """Move the pod from source to target, as the two agents would."""
        step = self.timings.step
        with (
            self.backend.open(self.source_path, NAME) as source,
            self.backend.open_target(self.target_path, NAME) as target,
        ):
            source.hold()
            assert source.accept_queues_empty(time.monotonic() + 2)
            self.first.freeze()
            frozen = time.monotonic()
            second = self.stand_in()
            wait_for("memory to be moved", lambda: time.monotonic() > frozen + frozen_seconds)
            if lock:
                target.lock()
            with step("find"):
                target.find(self.containers(second))
            with step("collect"):
                source.collect(self.containers(self.first))
            with step("early"):
                for batch in source.early_batches():
                    target.rebuild(batch)
            dark = time.monotonic()
            if flush:
                with step("flush"):
                    source.flush()
                with step("drain"):
                    assert source.drained(time.monotonic() + 2) == ()
            with step("lock"):
                if lock:
                    source.lock()
            with step("rebuild"):
                for batch in source.batches():
                    target.rebuild(batch)
            with step("verify"):
                target.verify()
            assert (target.count, target.digest) == (source.count, source.digest)
            with step("resume"):
                target.resume()
            second.thaw()
            self.timings.marks["dark"] = time.monotonic() - dark
            source.detach()
            self.first.end()
            if wake:
                self.audits = target.wake(time.monotonic() + 5)
            self.count = target.count
            assert second.line() == "serving"
