"""The agent's side of podferry-runtime: every `create` of a container of a migrating pod asks here what to do.

The protocol stands in src/hook/podferry-runtime.c; what is answered, in `orders`. Each hook has a thread here for as
long as it stands; `restore`, called by the migration, lets the waiting one go, waits for its report, and so on with
the next container, for the kubelet creates them one after the other. A hook that containerd kills (the kubelet gives
up after `runtimeRequestTimeout` and comes again with a new container id) is noticed by its closed connection; the
next takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from podferry import errors, ids
from podferry_agent import settings as settings_module
from podferry_agent.process import criu, tasks
from podferry_agent.runtime import bundle as bundles
from podferry_agent.runtime import invocation as invocations
from podferry_agent.runtime import orders, restore

log = logging.getLogger(__name__)

ORDER_SECONDS = 60.0
"""How long a hook may stand here before its migration is admitted: the operator admits when it knows the pod's UID."""

KILL_SECONDS = 10.0
"""How long a killed container may take to be gone."""

MESSAGE_MAX = 65536
"""podferry-runtime.c's MESSAGE_MAX."""


@dataclass(eq=False, slots=True)
class _Visit:
    """One hook that stands here."""

    connection: socket.socket
    pidfd: int
    invocation: invocations.Invocation
    bundle: bundles.Bundle
    running: bool = False
    """Whether it was told to restore and has not said how that ended."""
    code: int | None = None
    """How the restore ended."""
    gone: bool = False

    def say(self, kind: str, text: str = "") -> None:
        """Answer; a hook that is gone does not hear it."""
        with contextlib.suppress(OSError):
            self.connection.sendall((kind + text).encode()[: MESSAGE_MAX - 1])

    @property
    def cgroup(self) -> Path:
        return bundles.CGROUP_MOUNT / bundles.cgroup(self.bundle.cgroups_path).lstrip("/")

    def fail(self, message: str) -> None:
        """Let the hook fail, end the restore that it may be running, and kill whatever that has restored so far."""
        self.say("F", message)
        if self.running:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        tasks.kill(self.cgroup, time.monotonic() + KILL_SECONDS)


class Hooks:
    """Serves the hooks of this node; a context manager. Methods may be called from any thread."""

    def __init__(self, settings: settings_module.Settings) -> None:
        self._settings = settings
        self._markers = settings.run_dir / "restored"
        self._arrivals = orders.Arrivals(settings.state_dir / "arrived")
        self._changed = threading.Condition()
        self._orders: dict[str, orders.Order] = {}
        self._waits: dict[str, Callable[[], None]] = {}
        self._standing: dict[tuple[str, str], _Visit] = {}
        """(migration id, container) → the hook that waits there, or that runs the restore."""
        self._restored: dict[str, list[_Visit]] = {}
        self._restoring: set[str] = set()
        self._listener: socket.socket | None = None

    # --- for the migration

    def expect(
        self, migration_id: str, pod_uid: str, containers: Sequence[str], waits: Callable[[], None] | None = None
    ) -> None:
        """Let the hooks of these containers of a pod wait to be restored; repeating it changes nothing.

        `waits` is called, in a hook's thread, when the first container's hook begins to wait.
        """
        with self._changed:
            known = self._orders.get(ids.migration_id(migration_id))
            if known is None or (known.pod_uid, known.containers) != (pod_uid, tuple(containers)):
                self._orders[migration_id] = orders.Order(migration_id, pod_uid, tuple(containers))
            if waits is not None:
                self._waits[migration_id] = waits
            self._changed.notify_all()

    def waiting(self, migration_id: str, timeout: float) -> bool:
        """Wait at most `timeout` seconds until the first container's hook stands here."""
        with self._changed:
            order = self._orders.get(migration_id)
            if order is None:
                return False
            first = (migration_id, order.containers[0])
            return self._changed.wait_for(lambda: first in self._standing, timeout)

    def restore(self, migration_id: str, images: Mapping[str, Path], deadline: float) -> dict[str, int]:
        """Restore every container from its image set, in turn; return their init processes, all tasks stopped.

        Raises:
            Permanent: a restore failed (reason RestoreFailed); nothing will be restored for this migration any more,
            and
                what was restored stands until `abort`.
            Transient: a hook did not come before the deadline (reason DeadlineExceeded), the same holds.
        """
        with self._changed:
            order = self._order(migration_id)
            self._restoring.add(migration_id)
        try:
            return {name: self._restore(order, name, images[name], deadline) for name in order.containers}
        except Exception as error:
            with self._changed:
                order.aborted = order.aborted or str(error)
            raise
        finally:
            with self._changed:
                self._restoring.discard(migration_id)
                self._changed.notify_all()

    def commit(self, migration_id: str, pod_uid: str, containers: Sequence[str]) -> None:
        """From now on these are ordinary containers: when they die, the kubelet may create them anew here."""
        self._arrivals.record(_uid(pod_uid), ids.migration_id(migration_id), containers)

    def abort(self, migration_id: str, message: str) -> None:
        """Let hooks of this migration fail, now and later, and kill what was restored for it; unknown ids are fine."""
        with self._changed:
            order = self._orders.get(migration_id)
            if order is None:
                return
            order.aborted = order.aborted or message
            self._changed.notify_all()
            self._changed.wait_for(lambda: migration_id not in self._restoring, KILL_SECONDS)
            restored = self._restored.pop(migration_id, [])
            waiting = [visit for (owner, _), visit in self._standing.items() if owner == migration_id]
        for visit in waiting:
            visit.say("F", f"migration {migration_id} was aborted: {message}")
        for visit in restored:
            tasks.kill(visit.cgroup, time.monotonic() + KILL_SECONDS)

    def forget(self, migration_id: str) -> None:
        """Drop the order. Unless it was committed, later hooks of its pod fail as not admitted."""
        with self._changed:
            self._orders.pop(migration_id, None)
            self._waits.pop(migration_id, None)
            self._restored.pop(migration_id, None)
        shutil.rmtree(self._work(migration_id), ignore_errors=True)

    def prune(self, known: Collection[str]) -> None:
        """Forget what arrived for pods that this node does not know any more."""
        self._arrivals.prune(known)

    # --- one restore

    def _restore(self, order: orders.Order, name: str, images: Path, deadline: float) -> int:
        visit = self._take(order, name, deadline)
        work = self._work(order.migration_id) / name
        try:
            restore.prepare(visit.bundle, images, work)
            visit.running = True
            visit.say("R", "\0".join(visit.invocation.restore(self._settings.runc, images / criu.IMAGES, work)) + "\0")
            code = self._report(order, visit, deadline)
            if code != 0:
                told = restore.failure(work, visit.invocation.log, code)
                raise errors.Permanent(f"{name}: {told}", reason="RestoreFailed")
            pid = int(visit.invocation.pid_file.read_text())
            (self._markers / visit.invocation.container_id).touch(mode=0o600)
        except Exception as error:
            visit.fail(str(error))
            raise
        with self._changed:
            order.states[name] = orders.State.RESTORED
            self._restored.setdefault(order.migration_id, []).append(visit)
        visit.say("K")
        return pid

    def _take(self, order: orders.Order, name: str, deadline: float) -> _Visit:
        """Wait for the hook of container `name`."""
        key = (order.migration_id, name)
        with self._changed:
            self._changed.wait_for(lambda: key in self._standing or order.aborted is not None, _left(deadline))
            _check(order)
            if key not in self._standing:
                raise errors.Transient(f"the kubelet did not create {name} in time", reason="DeadlineExceeded")
            order.states[name] = orders.State.RESTORING
            return self._standing[key]

    def _report(self, order: orders.Order, visit: _Visit, deadline: float) -> int:
        """Wait until the hook says how its restore ended."""
        with self._changed:
            self._changed.wait_for(
                lambda: visit.code is not None or visit.gone or order.aborted is not None, _left(deadline)
            )
            _check(order)
            if visit.code is not None:
                return visit.code
            if visit.gone:
                raise errors.Permanent("the hook was killed during the restore", reason="RestoreFailed")
            raise errors.Transient("the restore did not end in time", reason="DeadlineExceeded")

    def _work(self, migration_id: str) -> Path:
        """Return where CRIU's configuration and logs of a migration's restores are, until it is forgotten."""
        return self._settings.run_dir / "work" / ids.object_name(migration_id)

    def _order(self, migration_id: str) -> orders.Order:
        order = self._orders.get(migration_id)
        if order is None:
            raise errors.Permanent(f"migration {migration_id} was not admitted here", reason="NotAdmitted")
        return order

    # --- for the hooks

    def __enter__(self) -> Self:
        for directory in (self._settings.run_dir, self._markers):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._settings.hook_socket
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(128)
        threading.Thread(target=self._accept, args=(self._listener,), name="hooks", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._changed:
            standing = list(self._standing.values())
        for visit in standing:
            with contextlib.suppress(OSError):
                visit.connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed by __exit__
            threading.Thread(target=self._serve, args=(connection,), name="hook", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            pidfd = os.pidfd_open(_peer(connection))
            try:
                self._answer(connection, pidfd)
            except errors.PodferryError as error:
                log.warning("hook: %s", error)
                with contextlib.suppress(OSError):
                    connection.sendall(b"F" + str(error).encode())
            except OSError as error:
                log.info("hook: the connection broke: %s", error)
            finally:
                os.close(pidfd)

    def _answer(self, connection: socket.socket, pidfd: int) -> None:
        arguments = connection.recv(MESSAGE_MAX).decode().split("\0")[:-1]
        invocation = invocations.parse(arguments)
        visit = _Visit(connection, pidfd, invocation, bundles.load(invocation.bundle))
        bundle = visit.bundle
        ordinary = bundle.sandbox or not bundle.migration_id
        if ordinary or self._arrivals.has(_uid(bundle.pod_uid), bundle.migration_id, bundle.container):
            visit.say("P")
            return
        refusal = self._admit(visit)
        if refusal is not None:
            log.warning("hook of %s: refused: %s", bundle.container, refusal)
            visit.say("F", refusal)
            return
        log.info("hook of %s waits for migration %s", bundle.container, bundle.migration_id)
        try:
            self._listen(visit)
        finally:
            self._leave(visit)

    def _admit(self, visit: _Visit) -> str | None:
        """Let a hook stand here, or say why not."""
        key = (visit.bundle.migration_id, visit.bundle.container)
        with self._changed:
            if not self._changed.wait_for(lambda: key[0] in self._orders, ORDER_SECONDS):
                return f"migration {key[0]} was not admitted on this node"
            order = self._orders[key[0]]
            refusal = order.answer(visit.bundle.pod_uid, visit.bundle.container)
            if refusal is not None:
                return refusal
            if key in self._standing:
                self._standing[key].say("F", "another create of the same container has come")
            self._standing[key] = visit
            waits = self._waits.get(key[0]) if key[1] == order.containers[0] else None
            self._changed.notify_all()
        if waits is not None:
            waits()
        return None

    def _listen(self, visit: _Visit) -> None:
        """Read what the hook says until it goes away."""
        while message := visit.connection.recv(MESSAGE_MAX):
            with self._changed:
                visit.code, visit.running = int(message[1:]), False
                self._changed.notify_all()

    def _leave(self, visit: _Visit) -> None:
        key = (visit.bundle.migration_id, visit.bundle.container)
        with self._changed:
            visit.gone = True
            if self._standing.get(key) is visit:
                del self._standing[key]
            self._changed.notify_all()


def _check(order: orders.Order) -> None:
    if order.aborted is not None:
        raise errors.Permanent(f"aborted: {order.aborted}", reason="Aborted")


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _peer(connection: socket.socket) -> int:
    """Return the process at the other end (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def _uid(pod_uid: str) -> str:
    """Check a pod's UID before it becomes a file's name."""
    return ids.migration_id(pod_uid, "pod_uid")
