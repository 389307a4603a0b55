"""A thread that lives in another network namespace: a socket belongs to the namespace of the thread that made it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from podferry import errors

CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

Result = TypeVar("Result")


class NetworkNamespace:
    """A network namespace by its path, and one worker thread in it.

    Netlink, nftables and raw sockets of a pod are made by `run`; once made they may be used from any thread.
    """

    def __init__(self, path: str | Path) -> None:
        """Enter the namespace at `path` (as `/proc/<pid>/ns/net` or `/run/netns/<name>`).

        Raises:
            Permanent: it is not there, is no network namespace, or this process may not enter it.
        """
        self.path = Path(path)
        self._worker = concurrent.futures.ThreadPoolExecutor(
            max_workers=1, thread_name_prefix=f"netns-{self.path.name}"
        )
        try:
            self._worker.submit(_enter, self.path).result()
        except OSError as error:
            self.close()
            raise errors.Permanent(f"cannot enter {self.path}: {error}", reason="NoSuchNamespace") from error

    def run(self, call: Callable[[], Result]) -> Result:
        """Run `call` in the namespace and return what it returns."""
        return self._worker.submit(call).result()

    def close(self) -> None:
        """End the worker."""
        self._worker.shutdown()

    def __enter__(self) -> NetworkNamespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _enter(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.closing(os.fdopen(fd, closefd=True)):
        if _LIBC.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
