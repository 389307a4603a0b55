"""Saving a frozen container with CRIU, through runc, so that neither the container nor its connections notice.

CRIU must be told `tcp-close` and `skip-in-flight`: leave established sockets out and alone. runc has no flags for
that, only the annotation org.criu.config of the container or the file /etc/criu/runc.conf. Ordinary pods carry no
such annotation, and the file is for every checkpoint on the node. So runc is given a *private root*: a directory with
a copy of the container's state.json in which the annotation is set. That also keeps runc's "checkpoint" marker, which
would change how it sees the container later, out of the real root. (Considered and left: a private mount namespace
with a file of ours at /etc/criu/runc.conf. CRIU would then resolve mounts from a namespace that is not the host's.)

CRIU thaws the container's cgroup after it has stopped every task by ptrace, and freezes it again before it lets go.
It is never killed half-way: that would leave its code inside the tasks. A dump that takes longer than allowed fails
when it ends.
"""

from __future__ import annotations

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

OPTIONS = ("tcp-close", "skip-in-flight")

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
        self._runc, self._root = settings.runc, settings.runc_root

    def save(self, pod: pods.Pod, container: pods.Container, directory: Path, *, first: bool, deadline: float) -> Saved:
        """Make `directory` the image set of a frozen container; `first` in the pod takes along what all share.

        The container stays frozen, whatever happens.

        Raises:
            Permanent: CRIU cannot save it (reason CheckpointFailed, the message is the end of CRIU's log), or its files
                cannot be carried (reason FilesNotMovable).
            Transient: it took longer than until `deadline` (reason DeadlineExceeded).
        """
        started = time.monotonic()
        if not freezer.frozen(container.cgroup):
            raise errors.Permanent(f"{container.name} is not frozen", reason="NotFrozen")
        work = directory.with_name(directory.name + ".work")
        for new in (work, directory, directory / criu.IMAGES):
            new.mkdir(mode=0o700, parents=True)
        self._dump(container, directory / criu.IMAGES, work, deadline)
        if not first:
            _drop_ipc(directory / criu.IMAGES)
        sources = {"rootfs": files.upper_directory(container.bundle.rootfs), **owned(pod.containers, container)}
        file_bytes = files.collect(directory, sources)
        seconds = time.monotonic() - started
        if time.monotonic() > deadline:
            raise errors.Transient(f"saving took {seconds:.1f} s", reason="DeadlineExceeded")
        statistics = criu.dump_statistics(work)
        return Saved(container.name, directory, statistics.memory_bytes, file_bytes, seconds)

    def _dump(self, container: pods.Container, images: Path, work: Path, deadline: float) -> None:
        configuration = work / "criu.conf"
        configuration.write_text("".join(f"{option}\n" for option in OPTIONS))
        private = work / "runc"
        runc.with_annotation(self._root, container.id, bundles.CRIU_CONFIG, str(configuration), private)
        command = [
            *(str(self._runc), "--root", str(private), "checkpoint", "--leave-running"),
            *("--image-path", str(images), "--work-path", str(work), container.id),
        ]
        allowed = max(0.0, deadline - time.monotonic()) + HANG_SECONDS
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=allowed, check=False)
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


def _drop_ipc(images: Path) -> None:
    """Leave System V IPC to the pod's first container: all share the namespace, and CRIU dumps it with each."""
    for path in images.glob("ipcns-*.img"):
        path.unlink()
