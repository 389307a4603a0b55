"""Saving a frozen container with CRIU, through runc, so that neither the container nor its connections notice.

CRIU must be told `tcp-close` and `skip-in-flight`: leave established sockets out and alone. runc has no flags for
that, only the annotation org.criu.config of the container or the file /etc/criu/runc.conf. Ordinary pods carry no
such annotation, and the file is for every checkpoint on the node. So runc is given a *private root*: a directory with
a copy of the container's state.json in which the annotation is set. That also keeps runc's "checkpoint" marker, which
would change how it sees the container later, out of the real root. (Considered and left: a private mount namespace
with a file of ours at /etc/criu/runc.conf. CRIU would then resolve mounts from a namespace that is not the host's.)

CRIU would also cut the whole pod off the network while it dumps. Since 4.0 it can be told not to; before, it calls
iptables-restore for that, and finds one that does nothing first on its PATH.

CRIU thaws the container's cgroup after it has stopped every task by ptrace, and freezes it again before it lets go.
It must never be killed half-way: that would leave its code inside the tasks. So a dump that takes longer than allowed
fails when it ends, and CRIU runs in a cgroup of its own, that it may survive an agent whose whole cgroup is killed.
Who thaws after such a crash waits for it (see `freezer`).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from podferry import errors
from podferry_agent import settings as settings_module
from podferry_agent.process import criu, files, freezer
from podferry_agent.runtime import bundle as bundles
from podferry_agent.runtime import pods, runc

OPTIONS = ("tcp-close", "skip-in-flight", "file-locks", "ghost-limit 1G")
"""Leave established connections alone, and what is still coming in; take along file locks, which are between tasks of
the container, and files that are open but deleted, unless they are huge.
"""

LOCK_CAN_BE_SKIPPED = (4, 0)
"""The first CRIU with `network-lock skip`; an older one stops at the words."""

SURVIVORS = Path("/sys/fs/cgroup/podferry-checkpoint")
"""The cgroup in which runc and CRIU save."""

HANG_SECONDS = 300.0
"""After this long beyond its deadline a dump is given up; what it left of the container a person must see."""


@dataclass(frozen=True, slots=True)
class Saved:
    """An image set of one container."""

    container: str
    directory: Path
    memory_bytes: int
    """Pages that CRIU wrote."""
    file_bytes: int
    """Archives of files that CRIU leaves out."""
    seconds: float
    """How long all of it took."""


class Checkpointer:
    """Saves containers of this node."""

    def __init__(self, settings: settings_module.Settings) -> None:
        criu.preload()
        self._runc, self._root = settings.runc, settings.runc_root
        self._options: tuple[str, ...] = OPTIONS
        if criu.version() >= LOCK_CAN_BE_SKIPPED:
            self._options += ("network-lock skip",)

    def save(self, pod: pods.Pod, container: pods.Container, directory: Path, *, deadline: float) -> Saved:
        """Make `directory` the image set of a frozen container; what containers share is in the set of one of them.

        The containers of `pod` must be in the order of its spec, that in which they will be restored. The container
        stays frozen, whatever happens.

        Raises:
            Permanent: CRIU cannot save it (reason CheckpointFailed, the message is the end of CRIU's log), its files
                cannot be carried (reason FilesNotMovable), or its shared memory cannot (see `ipc_owner`).
            Transient: it took longer than until `deadline` (reason DeadlineExceeded).
        """
        started = time.monotonic()
        if not freezer.frozen(container.cgroup):
            raise errors.Permanent(f"{container.name} is not frozen", reason="NotFrozen")
        keeps_ipc = container is ipc_owner(pod.containers)
        work = directory.with_name(directory.name + ".work")
        for new in (work, directory, directory / criu.IMAGES):
            new.mkdir(mode=0o700, parents=True)
        self._dump(container, directory / criu.IMAGES, work, deadline)
        if not keeps_ipc:
            _drop_ipc(directory / criu.IMAGES)
        sources = {"rootfs": files.upper_directory(container.bundle.rootfs), **owned(pod.containers, container)}
        file_bytes = files.collect(directory, sources)
        seconds = time.monotonic() - started
        if time.monotonic() > deadline:
            raise errors.Transient(f"saving took {seconds:.1f} s", reason="DeadlineExceeded")
        statistics = criu.dump_statistics(work)
        return Saved(container.name, directory, statistics.memory_bytes, file_bytes, seconds)

    def check(self, pod: pods.Pod) -> None:
        """Look for what would make `save` fail and can be seen before the freeze; changes nothing.

        Raises:
            Permanent: as `save` would.
        """
        ipc_owner(pod.containers)
        for container in pod.containers:
            files.upper_directory(container.bundle.rootfs)

    def _dump(self, container: pods.Container, images: Path, work: Path, deadline: float) -> None:
        configuration = work / "criu.conf"
        configuration.write_text("".join(f"{option}\n" for option in self._options))
        private = work / "runc"
        runc.with_annotation(self._root, container.id, bundles.CRIU_CONFIG, str(configuration), private)
        SURVIVORS.mkdir(exist_ok=True)
        command = [
            *("/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(SURVIVORS / "cgroup.procs")),
            *(str(self._runc), "--root", str(private), "checkpoint", "--leave-running"),
            *("--image-path", str(images), "--work-path", str(work), container.id),
        ]
        allowed = max(0.0, deadline - time.monotonic()) + HANG_SECONDS
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=allowed, check=False, env=_without_lock(work)
            )
        except subprocess.TimeoutExpired as error:
            left = [str(container.cgroup)]
            raise errors.Inconsistent("CRIU hangs", left=left, reason="CheckpointHangs") from error
        except OSError as error:
            raise errors.Permanent(f"cannot run {self._runc}: {error}", reason="CheckpointFailed") from error
        if done.returncode != 0:
            told = criu.log_tail(work / "dump.log") or done.stderr
            raise errors.Permanent(f"{container.name}: {told}", reason="CheckpointFailed")


def owned(containers: Sequence[pods.Container], container: pods.Container) -> dict[str, Path]:
    """Return what of the pod's shared directories travels with `container`: those that no container before it mounts.

    On the target they are then in place before any container that sees them is restored.
    """
    taken: set[str] = set()
    for before in containers[: containers.index(container)]:
        taken.update(before.bundle.carried)
    return {name: path for name, path in container.bundle.carried.items() if name not in taken}


def ipc_owner(containers: Sequence[pods.Container]) -> pods.Container:
    """Return the container whose image set brings the System V IPC objects of the pod.

    All containers share the namespace and CRIU dumps it with each, but it can be restored only once, and only
    together with the tasks that have a segment attached: with none, it is the first container's.

    Raises:
        Permanent: tasks of several containers have segments attached (reason SharedMemoryNotMovable).
    """
    attached = [item for item in containers if any(_attaches(pid) for pid in freezer.pids(item.cgroup))]
    if len(attached) > 1:
        names = " and ".join(item.name for item in attached)
        message = f"{names} share System V memory; use a file in /dev/shm or an emptyDir of medium Memory"
        raise errors.Permanent(message, reason="SharedMemoryNotMovable")
    return attached[0] if attached else containers[0]


def _attaches(pid: int) -> bool:
    """Tell whether a process has a System V shared memory segment attached (ipc/shm.c names them so)."""
    try:
        return b" /SYSV" in Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return False


def _drop_ipc(images: Path) -> None:
    """Remove System V IPC objects from a set of images.

    The namespace's variables (ipcns-var) stay: CRIU does not restore without them, and setting them twice is harmless.
    """
    for kind in ("shm", "msg", "sem"):
        for path in images.glob(f"ipcns-{kind}-*.img"):
            path.unlink()


def _without_lock(work: Path) -> dict[str, str]:
    """Return an environment in which iptables-restore does nothing, for a CRIU that insists on calling it."""
    programs = work / "bin"
    programs.mkdir(mode=0o700)
    for name in ("iptables-restore", "ip6tables-restore"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o700)
    return {**os.environ, "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}"}
