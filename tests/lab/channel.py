"""The host's end of a node's control channel: requests and answers as JSON lines over a unix socket that QEMU serves.

What the operations are stands in guest/control.py.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

from podferry import errors

Message = dict[str, Any]


class Channel:
    """One connection to one node; any thread may ask."""

    def __init__(self, path: Path, node: str) -> None:
        self.node = node
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self._ids = itertools.count(1)
        self._waiting: dict[int, concurrent.futures.Future[Message]] = {}
        self._writing = threading.Lock()
        self._hello = threading.Event()
        threading.Thread(target=self._read, name=f"channel-{node}", daemon=True).start()

    def wait_hello(self, seconds: float) -> bool:
        """Return whether the node has said that it is up, waiting for it up to `seconds`."""
        return self._hello.wait(seconds)

    def ask(self, op: str, *, seconds: float = 60.0, **fields: Any) -> Message:
        """Send a request and return its answer.

        Raises:
            Transient: no answer within `seconds`, or the channel is closed.
            Permanent: the node answered that it failed.
        """
        number = next(self._ids)
        future: concurrent.futures.Future[Message] = concurrent.futures.Future()
        self._waiting[number] = future
        try:
            with self._writing:
                self._socket.sendall(json.dumps({"id": number, "op": op, **fields}).encode() + b"\n")
            answer = future.result(seconds)
        except (TimeoutError, OSError) as error:
            raise errors.Transient(f"{self.node}: no answer to {op}: {error or f'{seconds} s'}") from error
        finally:
            del self._waiting[number]
        if not answer["ok"]:
            raise errors.Permanent(f"{self.node}: {op}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Close the connection; whoever still waits gets an error."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self) -> None:
        try:
            for line in self._lines:
                self._take(line)
        except OSError:
            pass
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(OSError("channel closed"))

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:  # half a line from before this connection
            return
        if "hello" in message:
            self._hello.set()
            return
        future = self._waiting.get(message.get("id"))
        if future is not None and not future.done():
            future.set_result(message)


def connect(path: Path, node: str, seconds: float) -> Channel:
    """Return a channel once QEMU serves its socket.

    Raises:
        Transient: it does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Channel(path, node)
        except OSError as error:
            if time.monotonic() > deadline:
                raise errors.Transient(f"{node}: no control channel: {error}") from error
            time.sleep(0.02)
