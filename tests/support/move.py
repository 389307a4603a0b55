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
from podferry_agent.connections import source as sources
from podferry_agent.connections import target as targets

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

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._popen.poll() is None

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
        self.dark = (0.0, 0.0)
        """When the network was dark in the last move, CLOCK_REALTIME."""
        self.second: Process | None = None
        """The stand-in for the restored process."""
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

    def run(self, seconds: float) -> None:
        """Let traffic flow, and check that the clients live."""
        pause(seconds)
        assert self.client.alive(), "the client has ended"

    def turn_back(self) -> None:
        """Make ready to move back: where the pod was is where it goes next."""
        assert self.second is not None
        self.first, self.second = self.second, None
        network = self.network
        network.source, network.target = network.target, network.source
        network.hold(network.target)

    def sockets(self) -> str:
        """Return what the kernel says about the connections, to be read when something has gone wrong."""
        listed = ""
        for name in (self.network.client, self.network.source, self.network.target):
            command = [*netns.Network.inside(name), "ss", "-tnoiem"]
            listed += f"\n{name}\n{subprocess.run(command, check=True, capture_output=True, text=True).stdout}"
        return listed

    def report(self) -> dict[str, Any]:
        """End the clients; check that they noticed nothing, and return what they report."""
        sockets = self.sockets()
        report = self.client.finish()
        assert report["errors"] == []
        if self._mode in {"echo", "paced"}:
            assert report["sent"] == report["received"]
        elif self._mode != "deaf":
            assert report["silent"] < 3, sockets
        print(f"\n{self._mode} x {self._count}: {self.timings}; longest pause {report['pause'] * 1000:.0f} ms")  # noqa: T201
        return report

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
        self.second = second
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

    @contextlib.contextmanager
    def engines(self) -> Iterator[Move]:
        """Stand on both sides, as the two agents would."""
        with (
            self.backend.open(self.source_path, NAME) as source,
            self.backend.open_target(self.target_path, NAME) as target,
        ):
            yield Move(self, source, target)

    def move(self, frozen_seconds: float = 1.0) -> list[audit.ConnectionAudit]:
        """Move the pod from source to target; the timings of the steps are kept."""
        with self.engines() as move:
            move.freeze()
            pause(frozen_seconds)
            move.prepare()
            move.flush()
            move.cut()
            move.resume()
            return move.wake()


class Move:
    """One move, step by step. A step that a test leaves out is one that a broken engine would leave out."""

    def __init__(self, scene: Scene, source: sources.Source, target: targets.Target) -> None:
        self.scene, self.source, self.target = scene, source, target
        self._dark = 0.0

    def _step(self, name: str) -> contextlib.AbstractContextManager[None]:
        return self.scene.timings.step(name)

    def hold(self) -> None:
        """Hold new connections; the pod accepts those that it has."""
        self.source.hold()
        assert self.source.accept_queues_empty(time.monotonic() + 2)

    def freeze(self) -> None:
        """Hold new connections and freeze the pod."""
        self.hold()
        self.scene.first.freeze()

    def prepare(self, *, lock: bool = True) -> None:
        """Have the stand-in for the restored process, and on both sides all that can be done before the cut."""
        if self.scene.second is None:
            self.scene.second = self.scene.stand_in()
        if lock:
            self.target.lock()
        with self._step("find"):
            self.target.find(self.scene.containers(self.scene.second))
        with self._step("collect"):
            self.source.collect(self.scene.containers(self.scene.first))
        with self._step("early"):
            for batch in self.source.early_batches():
                self.target.rebuild(batch)

    def flush(self, seconds: float = 2.0) -> tuple[str, ...]:
        """Close the peers' windows and wait until nothing is in flight."""
        self._dark = time.time()
        with self._step("flush"):
            self.source.flush()
        with self._step("drain"):
            return self.source.drained(time.monotonic() + seconds)

    def cut(self, *, lock: bool = True) -> None:
        """Lock, read, rebuild, verify."""
        self._dark = self._dark or time.time()
        with self._step("lock"):
            if lock:
                self.source.lock()
        with self._step("rebuild"):
            for batch in self.source.batches():
                self.target.rebuild(batch)
        with self._step("verify"):
            self.target.verify()
        assert (self.target.count, self.target.digest) == (self.source.count, self.source.digest)

    def resume(self) -> None:
        """Commit: the target goes on, the source is detached and killed."""
        with self._step("resume"):
            self.target.resume()
        assert self.scene.second is not None
        self.scene.second.thaw()
        self.scene.dark = self._dark, time.time()
        self.scene.timings.marks["dark"] = self.scene.dark[1] - self._dark
        self.source.detach()
        self.scene.first.end()
        assert self.scene.second.line() == "serving"

    def wake(self, seconds: float = 5.0) -> list[audit.ConnectionAudit]:
        """Wait until the peers have answered."""
        return self.target.wake(time.monotonic() + seconds)


def pause(seconds: float) -> None:
    """Let time pass: nothing else is waited for."""
    time.sleep(seconds)
