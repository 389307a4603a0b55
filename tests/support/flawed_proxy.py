"""A TCP proxy that commits one flaw on purpose: the negative control of everything that claims to notice flaws."""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass


class Flaw(enum.Enum):
    """What the proxy does wrong, once, at a given byte of one direction."""

    NONE = "none"
    DROP = "drop"
    REPEAT = "repeat"
    FLIP = "flip"
    SWAP = "swap"
    RESET = "reset"
    STALL = "stall"


@dataclass(frozen=True, slots=True)
class Fault:
    """`flaw` at byte `at` of the first connection that carries so many, over `length` bytes."""

    flaw: Flaw
    upstream: bool
    """Whether it hits what the client sends; otherwise what the server sends."""
    at: int = 5000
    length: int = 1


def spoil(data: bytes, flaw: Flaw, length: int) -> bytes:
    """Return `data`, at least 2 * `length` bytes, with the flaw at its beginning."""
    first, second, rest = data[:length], data[length : 2 * length], data[2 * length :]
    match flaw:
        case Flaw.DROP:
            return second + rest
        case Flaw.REPEAT:
            return first + first + second + rest
        case Flaw.FLIP:
            return bytes([data[0] ^ 0x10]) + data[1:]
        case Flaw.SWAP:
            return second + first + rest
        case _:
            return data


class Proxy:
    """Listens on loopback, forwards to `target`, and commits `fault` exactly once."""

    def __init__(self, target: tuple[str, int], fault: Fault) -> None:
        self.committed = threading.Event()
        self._target = target
        self._fault = fault
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close every socket; the threads end with them."""
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for source, sink, upstream in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._forward, args=(source, sink, upstream), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, upstream: bool) -> None:
        try:
            self._carry(source, sink, upstream)
        except OSError:
            reset(source)
            reset(sink)

    def _carry(self, source: socket.socket, sink: socket.socket, upstream: bool) -> None:
        fault = self._fault
        carried = 0
        while data := source.recv(65536):
            hits = upstream == fault.upstream and fault.flaw is not Flaw.NONE
            if hits and carried + len(data) > fault.at and self._claim():
                if fault.flaw is Flaw.STALL:
                    return
                if fault.flaw is Flaw.RESET:
                    raise ConnectionResetError
                cut = max(0, fault.at - carried)
                tail = data[cut:]
                while len(tail) < 2 * fault.length:
                    tail += source.recv(65536)
                data = data[:cut] + spoil(tail, fault.flaw, fault.length)
            carried += len(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def _claim(self) -> bool:
        with self._lock:
            first = not self.committed.is_set()
            self.committed.set()
            return first


def reset(sock: socket.socket) -> None:
    """End `sock` with a RST where the kernel still can; safe while another thread reads from it."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)
        sock.close()


@contextlib.contextmanager
def proxy(target: tuple[str, int], fault: Fault) -> Iterator[Proxy]:
    """Run a proxy for the length of a `with` block."""
    running = Proxy(target, fault)
    try:
        yield running
    finally:
        running.close()
