"""A fake machine for the agent's migrations: containers, connections and hooks as plain state, with the rules of the
real.

What is checked with it: that after any fault, kill or abort the *world* is either moved or as before. The world
outlives agents; an agent that is killed leaves it as it stands. How the real kernel behaves is proved elsewhere, on
real kernels.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podferry import errors
from podferry.wire import agent_pb2


@dataclass(slots=True)
class World:
    """Two nodes, one pod with live connections, seen from outside."""

    root: Path
    running: bool = True
    """The source's tasks are not frozen."""
    gate: set[str] = field(default_factory=set)
    """Stages of the source's gate that are on."""
    repair: bool = False
    """The source's sockets are in repair mode."""
    attached: bool = True
    """The source's pod is on its bridge."""
    restored: bool = False
    """Stopped tasks stand on the target."""
    rebuilt: list[bytes] = field(default_factory=list)
    resumed: bool = False
    """Tasks run and traffic flows on the target."""
    connections: list[bytes] = field(default_factory=lambda: [b"one", b"two", b"three"])
    moving: tuple[str, ...] = ()
    """Connections that no flush brings to rest."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def as_before(self) -> bool:
        """The pod serves on the source as if nothing had happened, and nowhere else."""
        untouched = self.running and self.attached and not self.gate and not self.repair
        return untouched and not self.restored and not self.resumed and not self.leftovers

    @property
    def moved(self) -> bool:
        """The pod serves on the target with all connections, the source stands frozen behind its lock."""
        silent = not self.running and not self.attached and self.gate == {"lock"} and self.repair
        return silent and self.resumed and self.rebuilt == self.connections and not self.leftovers

    @property
    def leftovers(self) -> list[Path]:
        """Image sets that nobody wiped."""
        return [path for side in ("source", "target") for path in (self.root / side / "images").glob("*")]


@dataclass(frozen=True, slots=True)
class FakeContainer:
    """A container as `runtime.pods` shows it."""

    name: str
    cgroup: Path


@dataclass(frozen=True, slots=True)
class FakePod:
    """A pod as `runtime.pods` shows it."""

    uid: str
    netns: Path
    containers: tuple[FakeContainer, ...]

    def ordered(self, names: Sequence[str]) -> FakePod:
        """Return the pod: its containers are in order."""
        return self


@dataclass(frozen=True, slots=True)
class FakePods:
    """`runtime.pods.PodView` of a node with one pod of two containers."""

    world: World

    def find(self, uid: str) -> FakePod:
        """Return the pod."""
        return FakePod(uid, self.world.root, tuple(FakeContainer(name, self.world.root) for name in ("app", "sidecar")))


@dataclass(frozen=True, slots=True)
class FakeFreezer:
    """`process.freezer`."""

    world: World

    def freeze(self, cgroups: Sequence[Path], deadline: float) -> None:
        """Freeze the source's tasks."""
        self.world.running = False

    def thaw(self, cgroups: Sequence[Path]) -> None:
        """Thaw them; a task that runs into a socket in repair mode is what must never happen."""
        if self.world.repair:
            raise AssertionError("thawed while sockets are in repair mode")
        self.world.running = True

    def pids(self, cgroup: Path) -> list[int]:
        """Return a process."""
        return [1]


@dataclass(frozen=True, slots=True)
class FakeTasks:
    """`process.tasks`."""

    world: World

    def netns(self, pid: int) -> Path:
        """Return a path."""
        return self.world.root

    def cgroup(self, pid: int) -> Path:
        """Return a path."""
        return self.world.root

    def resume(self, cgroups: Sequence[Path]) -> None:
        """Continue; before the connections are there is what must never happen."""
        if not self.world.resumed:
            raise AssertionError("tasks run before their connections")

    def kill(self, cgroup: Path, deadline: float) -> None:
        """Kill what was restored."""
        self.world.restored = False


@dataclass(frozen=True, slots=True)
class Saved:
    """What a save reports."""

    memory_bytes: int = 4096


@dataclass(frozen=True, slots=True)
class FakeCheckpointer:
    """`process.checkpoint.Checkpointer`: writes one small image."""

    world: World

    def save(self, pod: FakePod, container: FakeContainer, directory: Path, **_: Any) -> Saved:
        """Save a frozen container."""
        if self.world.running:
            raise AssertionError("saved while running")
        directory.mkdir(parents=True)
        (directory / "pages-1.img").write_bytes(container.name.encode() * 1000)
        return Saved()


@dataclass(frozen=True, slots=True)
class FakeSource:
    """`connections.source.Source`."""

    world: World
    count: int = 3
    unmovable: tuple[()] = ()

    @property
    def digest(self) -> bytes:
        """The digest over all connections."""
        return hashlib.sha256(b"".join(self.world.connections)).digest()

    def hold(self) -> None:
        """Hold new connections."""
        self.world.gate = {"hold"}

    def accept_queues_empty(self, deadline: float) -> bool:
        """Nothing waits to be accepted."""
        return True

    def collect(self, containers: Mapping[str, Sequence[int]]) -> int:
        """Take all into repair mode."""
        self.world.repair = True
        return self.count

    def flush(self) -> None:
        """Close the windows."""
        self.world.gate = {"hold", "flush"}

    def drained(self, deadline: float) -> tuple[str, ...]:
        """All but the moving ones are at rest."""
        return self.world.moving

    def lock(self) -> None:
        """Let nothing pass."""
        self.world.gate = {"lock"}

    def early_batches(self) -> Iterator[bytes]:
        """Nothing is known early."""
        yield from ()

    def batches(self) -> Iterator[bytes]:
        """Yield every connection."""
        if self.world.gate != {"lock"}:
            raise AssertionError("read while segments still move")
        yield from self.world.connections

    def undo(self) -> None:
        """Take everything back."""
        if not self.world.attached:
            raise AssertionError("undone after it was detached")
        self.world.repair = False
        self.world.gate = set()

    def detach(self) -> None:
        """Leave the bridge."""
        self.world.attached = False


@dataclass(frozen=True, slots=True)
class FakeAudit:
    """One kept connection."""

    number: int

    def to_wire(self) -> agent_pb2.ConnectionAudit:
        """Return it as a message."""
        return agent_pb2.ConnectionAudit(local="10.0.0.1:80", peer=f"10.0.0.2:{self.number}", fate="kept")


@dataclass(frozen=True, slots=True)
class FakeTarget:
    """`connections.target.Target`."""

    world: World

    @property
    def count(self) -> int:
        """How many are rebuilt."""
        return len(self.world.rebuilt)

    @property
    def digest(self) -> bytes:
        """The digest over what came."""
        return hashlib.sha256(b"".join(self.world.rebuilt)).digest()

    def lock(self) -> None:
        """Let nothing pass."""

    def find(self, containers: Mapping[str, Sequence[int]]) -> int:
        """Find the waiting sockets."""
        return 3

    def rebuild(self, batch: bytes) -> None:
        """Rebuild one connection in the restored process."""
        if not self.world.restored:
            raise AssertionError("rebuilt without a process")
        self.world.rebuilt.append(batch)

    def verify(self) -> None:
        """All stand."""

    def recover(self, batches: Sequence[bytes]) -> None:
        """Nothing was lost: sockets live in the process."""
        if list(batches) != self.world.rebuilt:
            raise AssertionError("the kept batches are not what was rebuilt")

    def resume(self) -> None:
        """Let traffic come; both sides alive at once is what must never happen."""
        if self.world.running or self.world.attached:
            raise AssertionError("resumed while the source is alive")
        self.world.resumed = True

    def wake(self, deadline: float) -> list[FakeAudit]:
        """All peers answered."""
        return [FakeAudit(number) for number, _ in enumerate(self.world.rebuilt)]

    def discard(self) -> None:
        """Drop all."""
        self.world.rebuilt.clear()


@dataclass(frozen=True, slots=True)
class FakeConnections:
    """`connections.backend.Backend`."""

    world: World

    @contextlib.contextmanager
    def open(self, netns: Path, name: str) -> Iterator[FakeSource]:
        """Open the source's half."""
        yield FakeSource(self.world)

    @contextlib.contextmanager
    def open_target(self, netns: Path, name: str) -> Iterator[FakeTarget]:
        """Open the target's half."""
        yield FakeTarget(self.world)

    def recover(self, netns: Path, name: str, pids: Sequence[int]) -> None:
        """Undo."""
        FakeSource(self.world).undo()


@dataclass(frozen=True, slots=True)
class FakeHooks:
    """`runtime.hooks.Hooks` with a kubelet that creates promptly."""

    world: World

    def expect(self, migration_id: str, uid: str, containers: Sequence[str], waits: Callable[[], None]) -> None:
        """The first hook comes at once."""
        waits()

    def waiting(self, migration_id: str, timeout: float) -> bool:
        """It stands."""
        return True

    def restore(self, migration_id: str, images: Mapping[str, Path], deadline: float) -> dict[str, int]:
        """Restore from whole image sets."""
        for name, directory in images.items():
            if (directory / "pages-1.img").read_bytes() != name.encode() * 1000:
                raise errors.Permanent("damaged image", reason="RestoreFailed")
        self.world.restored = True
        return dict.fromkeys(images, 1)

    def commit(self, migration_id: str, uid: str, containers: Sequence[str]) -> None:
        """They are ordinary containers now."""

    def abort(self, migration_id: str, message: str) -> None:
        """Fail the hooks, kill what they restored."""
        if self.world.resumed:
            raise AssertionError("aborted after the resume")
        self.world.restored = False

    def forget(self, migration_id: str) -> None:
        """Forget."""
