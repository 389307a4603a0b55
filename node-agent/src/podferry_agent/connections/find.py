"""The TCP sockets of processes: who holds which, and a duplicate of each, also of a frozen or stopped task's."""

from __future__ import annotations

import ctypes
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from podferry import errors
from podferry.tcp import snapshot

_SYS_PIDFD_GETFD = 438
_LIBC = ctypes.CDLL(None, use_errno=True)
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_SO_COOKIE = 57
_SO_NETNS_COOKIE = 71
IPPROTO_MPTCP = 262


class Holder(NamedTuple):
    """One descriptor that stands for a socket."""

    key: snapshot.Key
    pid: int
    """On the node."""
    process: str
    inode: int


def holders(containers: Mapping[str, Sequence[int]]) -> Iterator[Holder]:
    """Yield every socket descriptor of the processes of each container (name → process ids on the node).

    A socket that is shared comes once for each descriptor, in the order of container, process and descriptor. A process
    that ends meanwhile has none.
    """
    for container, pids in containers.items():
        for pid in pids:
            root = Path(f"/proc/{pid}")
            try:
                status = (root / "status").read_text()
                fds = sorted(int(entry) for entry in os.listdir(root / "fd"))  # noqa: PTH208
            except (FileNotFoundError, ProcessLookupError):
                continue
            nspid = int(_field(status, "NSpid").split()[-1])
            process = _field(status, "Name").strip()
            for fd in fds:
                inode = _inode(root / "fd" / str(fd))
                if inode:
                    yield Holder(snapshot.Key(container, nspid, fd), pid, process, inode)


def _field(status: str, name: str) -> str:
    return status.partition(f"{name}:\t")[2].partition("\n")[0]


def _inode(path: Path) -> int:
    try:
        match = _SOCKET.fullmatch(os.readlink(path))  # noqa: PTH115
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(match[1]) if match else 0


def stopped(pid: int) -> bool:
    """Tell whether a process is stopped by a signal, as a restored one is until it is resumed."""
    try:
        return _field(Path(f"/proc/{pid}/status").read_text(), "State").startswith("T")
    except (FileNotFoundError, ProcessLookupError):
        return False


class Duplicator:
    """Takes duplicates of other processes' descriptors (pidfd_getfd, Linux 5.6); the originals notice nothing."""

    def __init__(self) -> None:
        self._pidfds: dict[int, int] = {}

    def duplicate(self, holder: Holder) -> socket.socket | None:
        """Return a duplicate of `holder`'s socket; None when the process or the descriptor is gone.

        Raises:
            Permanent: this process may not trace the other.
        """
        try:
            pidfd = self._pidfds.get(holder.pid)
            if pidfd is None:
                pidfd = self._pidfds[holder.pid] = os.pidfd_open(holder.pid)
            fd = _LIBC.syscall(_SYS_PIDFD_GETFD, pidfd, holder.key.fd, 0)
            if fd < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        except PermissionError as error:
            raise errors.Permanent(f"cannot duplicate {holder.key}: {error}", reason="MayNotTrace") from error
        except OSError:
            return None
        return socket.socket(fileno=fd)

    def close(self) -> None:
        """Let go of the processes; duplicates taken stay good."""
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        self._pidfds.clear()

    def __enter__(self) -> Duplicator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Visitor:
    """Looks at a socket of a running process from time to time without keeping it open.

    A duplicate that is kept would hold back the FIN when the process closes its own.
    """

    def __init__(self, holder: Holder, now: socket.socket) -> None:
        """Remember which socket `holder` has: `now` is a duplicate of it."""
        self._holder, self._cookie = holder, _cookie(now)

    def visit(self, duplicator: Duplicator) -> socket.socket | None:
        """Return a duplicate, to be closed soon; None when the process has closed the socket."""
        found = duplicator.duplicate(self._holder)
        if found is not None and _cookie(found) != self._cookie:
            found.close()
            return None
        return found


def _cookie(one: socket.socket) -> bytes:
    return one.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)


def is_tcp(candidate: socket.socket) -> bool:
    """Tell whether a socket is TCP over IPv4 or IPv6."""
    return candidate.proto == socket.IPPROTO_TCP and candidate.family in {socket.AF_INET, socket.AF_INET6}


def namespace_cookie(candidate: socket.socket) -> bytes:
    """Return what identifies the socket's network namespace (SO_NETNS_COOKIE, Linux 5.14)."""
    return candidate.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)


def own_namespace_cookie() -> bytes:
    """Return the same of the calling thread's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        return namespace_cookie(own)
