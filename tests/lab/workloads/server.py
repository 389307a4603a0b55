"""The sample TCP service: one process, one epoll loop, any number of connections, nothing on disk.

    server.py [--port 5000] [--ballast MIB]

The first line of a connection chooses what happens on it (see `frames`). `stat` answers with one line of JSON: which
process this is, whether its memory is still what it was, and bytes and chain of every stream in both directions, so
that a client can hold them against its own. Everything is kept in memory only: another process could not know it.

Runs in the sample image as /app/server.py: standard library only, cheap imports.
"""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import zlib

if __package__:
    from tests.lab.workloads import frames
else:  # in the image, where this folder is /app
    import frames  # type: ignore[import-not-found,no-redef]

BATCH = 262144
"""Most bytes read or written on one connection before the next gets its turn."""

KEEP_STREAMS = 4096
"""How many ended streams `stat` remembers."""


class Ballast:
    """Memory with known contents: proof that a process is the same one, and weight for a checkpoint to carry."""

    def __init__(self, mebibytes: int) -> None:
        seed = os.urandom(16)
        page = b"".join(hashlib.sha256(seed + bytes([number])).digest() for number in range(128))
        self.data = bytearray(page * (mebibytes * 256))
        self.checksum = zlib.crc32(self.data)

    def intact(self) -> bool:
        """Tell whether every byte is what it was at the start."""
        return zlib.crc32(self.data) == self.checksum


class Stream:
    """One connection in one of the frame modes: what came, what is due, what went out."""

    def __init__(self, mode: str, stream: int) -> None:
        self.mode = mode
        self.error = ""
        self.ended = False
        self.receiver = frames.Receiver(stream, self._expect)
        self.sender = frames.Sender(stream)
        self._history = hashlib.sha256()

    def _expect(self, number: int, length: int) -> bytes:
        return frames.pattern(self.receiver.stream, number, length)

    def feed(self, data: bytes) -> bytes:
        """Verify what came and return what the mode answers."""
        replies = []
        for payload in self.receiver.feed(data):
            if self.mode == frames.ECHO:
                self._history.update(payload)
                replies.append(self.sender.frame(frames.answer(self._history.digest(), len(payload))))
        return b"".join(replies)

    def pour(self) -> bytes:
        """Return the next frame that is sent unasked."""
        payload = frames.pattern(self.sender.stream, self.sender.frames, frames.BULK_LENGTH)
        return self.sender.frame(payload)

    def counters(self) -> dict[str, object]:
        """Return what `stat` shows of this stream."""
        return {
            "mode": self.mode,
            "error": self.error,
            "ended": self.ended,
            "received": self.receiver.received,
            "received_chain": self.receiver.chain,
            "sent": self.sender.sent,
            "sent_chain": self.sender.chain,
        }


class Connection:
    """An accepted socket: its first line, its stream, and the bytes that still have to be written."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.line = b""
        self.stream: Stream | None = None
        self.out = memoryview(b"")
        self.backlog = bytearray()
        self.eof = False
        self.pours = False
        self.events = selectors.EVENT_READ


class Server:
    """The service; `run` serves until `stop` is called from another thread or a signal ends the process."""

    def __init__(self, port: int = frames.PORT, ballast: int = 0, host: str = "0.0.0.0") -> None:
        self.instance = os.urandom(8).hex()
        self.started = time.time()
        self.accepted = 0
        self.streams: dict[int, Stream] = {}
        self.ballast = Ballast(ballast)
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server((host, port), backlog=1024)
        self.listener.setblocking(False)
        self.address: tuple[str, int] = self.listener.getsockname()
        self._wake, self._woken = socket.socketpair()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(self._woken, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve."""
        log(f"listening on port {self.address[1]}, process {os.getpid()}, instance {self.instance}")
        while True:
            for key, events in self.selector.select():
                if key.fileobj is self._woken:
                    self._close_all()
                    return
                if key.fileobj is self.listener:
                    self._accept()
                else:
                    self._serve(key.data, events)

    def stop(self) -> None:
        """End `run`."""
        self._wake.send(b"x")

    def stat(self) -> bytes:
        """Return the answer to a `stat` line."""
        report = {
            "instance": self.instance,
            "pid": os.getpid(),
            "started": self.started,
            "accepted": self.accepted,
            "ballast": {"bytes": len(self.ballast.data), "intact": self.ballast.intact()},
            "streams": {str(number): stream.counters() for number, stream in self.streams.items()},
        }
        return json.dumps(report).encode() + b"\n"

    def _accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except OSError:  # the peer was gone before its turn came
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        self.selector.register(sock, selectors.EVENT_READ, Connection(sock))

    def _serve(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                self._read(connection)
            self._write(connection)
        except frames.Corrupt as finding:
            self._close(connection, str(finding))
        except OSError as error:
            self._close(connection, f"{'reset' if isinstance(error, ConnectionResetError) else 'network'}: {error}")
        else:
            self._settle(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(BATCH)
        except BlockingIOError:
            return
        if not data:
            connection.eof = True
            connection.pours = False
            if connection.stream is not None:
                connection.stream.receiver.finish()
        elif connection.stream is None:
            self._first_line(connection, data)
        else:
            connection.backlog += connection.stream.feed(data)

    def _first_line(self, connection: Connection, data: bytes) -> None:
        connection.line += data
        line, found, rest = connection.line.partition(b"\n")
        if not found and len(connection.line) <= frames.LINE_LIMIT:
            return
        mode, _, number = line.decode("ascii", "replace").partition(" ")
        if mode == frames.STAT:
            connection.backlog += self.stat()
            connection.eof = True
        elif mode in (frames.ECHO, frames.SINK, frames.SOURCE, frames.DUPLEX) and number.isdecimal():
            connection.stream = self._remember(Stream(mode, int(number)))
            peer = connection.sock.getpeername()
            log(f"{line.decode()} from {peer[0]}:{peer[1]}")
            connection.pours = mode in (frames.SOURCE, frames.DUPLEX)
            connection.backlog += connection.stream.feed(rest)
        else:
            raise frames.Corrupt("misaligned", 0, "the first line names no mode")

    def _remember(self, stream: Stream) -> Stream:
        number = stream.receiver.stream
        if number in self.streams:
            raise frames.Corrupt("repeated", 0, f"stream {number} began twice")
        for old in list(self.streams):
            if len(self.streams) < KEEP_STREAMS:
                break
            if self.streams[old].ended:
                del self.streams[old]
        self.streams[number] = stream
        return stream

    def _write(self, connection: Connection) -> None:
        written = 0
        while written < BATCH:
            if not connection.out:
                if not connection.backlog and connection.pours and connection.stream is not None:
                    connection.out = memoryview(connection.stream.pour())
                else:
                    connection.out = memoryview(bytes(connection.backlog))
                    connection.backlog.clear()
                if not connection.out:
                    return
            try:
                count = connection.sock.send(connection.out)
            except BlockingIOError:
                return
            connection.out = connection.out[count:]
            written += count

    def _settle(self, connection: Connection) -> None:
        owes = bool(connection.out or connection.backlog or connection.pours)
        if connection.eof and not owes:
            self._close(connection)
            return
        # A peer that does not read its answers is not read from either: memory stays bounded.
        wants_more = not connection.eof and len(connection.backlog) < BATCH
        events = (selectors.EVENT_READ if wants_more else 0) | (selectors.EVENT_WRITE if owes else 0)
        if events != connection.events:
            connection.events = events
            self.selector.modify(connection.sock, events, connection)

    def _close(self, connection: Connection, error: str = "") -> None:
        if connection.stream is not None:
            connection.stream.error = error
            connection.stream.ended = True
        if error:
            log(f"connection ends: {error}")
        self.selector.unregister(connection.sock)
        connection.sock.close()

    def _close_all(self) -> None:
        for key in list(self.selector.get_map().values()):
            if isinstance(key.data, Connection):
                key.data.sock.close()
        for sock in (self.listener, self._wake, self._woken):
            sock.close()
        self.selector.close()


def log(message: str) -> None:
    """Write one line to standard output, which is the container's log."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {message}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Read `--name value` pairs and serve; without argparse, whose import takes an emulated processor half a second."""
    settings = {"--port": frames.PORT, "--ballast": 8}
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        if name not in settings:
            sys.stderr.write(f"unknown argument {name}; known are {', '.join(settings)}\n")
            return 2
        settings[name] = int(value)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as process 1 it would not end by default
    Server(settings["--port"], settings["--ballast"]).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
