"""The sample service's wire format: numbered frames whose every byte the receiver can predict.

A connection begins with one line from the client, `MODE STREAM` and a newline; then each direction is a row of frames:

    magic u16 | stream u32 | number u64 | length u32 | payload | chain u32        (big endian)

* `number` counts from 0 in each direction, so a frame lost, repeated or moved shows at once;
* `payload` is known to the receiver beforehand (`pattern`, or `answer` for what an echo replies), so it is compared
  byte by byte and not merely summed;
* `chain` is the CRC-32 of every byte sent before it in that direction, earlier chains included. Both ends keep it, so
  two numbers, bytes and chain, say whether both saw the same stream.

Runs in the sample image too: standard library only, cheap imports, cheap enough for an emulated processor.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable

PORT = 5000

ECHO, SINK, SOURCE, DUPLEX, STAT = "echo", "sink", "source", "duplex", "stat"
"""Modes, named for what the *server* is: it answers, swallows, pours, does both at once, or reports and closes."""

LINE_LIMIT = 64
"""Longest first line, in bytes."""

MAX_LENGTH = 65536
"""Longest payload, in bytes."""

BULK_LENGTH = 32768
"""Payload of a frame that is sent for speed."""

MAGIC = 0x50F1
_HEADER = struct.Struct("!HIQI")
_CHAIN = struct.Struct("!I")
OVERHEAD = _HEADER.size + _CHAIN.size

_TABLE = b"".join(hashlib.sha256(b"podferry %d" % number).digest() for number in range(MAX_LENGTH // 32)) * 2


class Corrupt(Exception):
    """A byte is not what it had to be: `kind` says lost, repeated, changed or misaligned; `offset` is in bytes."""

    def __init__(self, kind: str, offset: int, message: str) -> None:
        super().__init__(f"{kind} at byte {offset}: {message}")
        self.kind = kind
        self.offset = offset


def pattern(stream: int, number: int, length: int) -> bytes:
    """Return the payload of frame `number` of `stream`: a slice of one fixed table."""
    start = (stream * 40503 + number * 30011) % MAX_LENGTH
    return _TABLE[start : start + length]


def answer(history: bytes, length: int) -> bytes:
    """Return an echo's payload: `history`, the SHA-256 of everything received so far, and a slice that it selects."""
    start = int.from_bytes(history[:4], "big") % MAX_LENGTH
    return (history + _TABLE[start : start + length])[:length]


class Sender:
    """One direction of one connection, as its sender sees it."""

    __slots__ = ("chain", "frames", "sent", "stream")

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.frames = 0
        self.sent = 0
        self.chain = 0

    def frame(self, payload: bytes) -> bytes:
        """Return the next frame with `payload` in it, and count it as sent."""
        body = _HEADER.pack(MAGIC, self.stream, self.frames, len(payload)) + payload
        self.chain = zlib.crc32(body, self.chain)
        trailer = _CHAIN.pack(self.chain)
        self.chain = zlib.crc32(trailer, self.chain)
        self.frames += 1
        self.sent += len(body) + len(trailer)
        return body + trailer


class Receiver:
    """One direction of one connection, as its receiver sees it; counts only whole frames that proved right.

    `expect(number, length)` returns the payload that frame `number` must have.
    """

    __slots__ = ("_buffer", "_expect", "chain", "frames", "received", "stream")

    def __init__(self, stream: int, expect: Callable[[int, int], bytes]) -> None:
        self.stream = stream
        self.frames = 0
        self.received = 0
        self.chain = 0
        self._expect = expect
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; return the payloads of the frames that became complete.

        Raises:
            Corrupt: at the first byte that is not what it had to be; the receiver is of no use afterwards.
        """
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(buffer) - start >= _HEADER.size:
            length = self._check_header(*_HEADER.unpack_from(buffer, start))
            end = start + _HEADER.size + length
            if len(buffer) < end + _CHAIN.size:
                break
            payloads.append(self._check_body(bytes(buffer[start : end + _CHAIN.size]), length))
            start = end + _CHAIN.size
        del buffer[:start]
        return payloads

    def finish(self) -> None:
        """Tell the receiver that the stream ended here.

        Raises:
            Corrupt: the end lies within a frame.
        """
        if self._buffer:
            raise Corrupt("lost", self.received, f"the stream ends {len(self._buffer)} bytes into frame {self.frames}")

    def _check_header(self, magic: int, stream: int, number: int, length: int) -> int:
        if magic != MAGIC or stream != self.stream or length > MAX_LENGTH:
            raise Corrupt("misaligned", self.received, f"no frame of stream {self.stream} begins here")
        if number != self.frames:
            kind = "lost" if number > self.frames else "repeated"
            raise Corrupt(kind, self.received, f"frame {number} came, {self.frames} was due")
        return length

    def _check_body(self, frame: bytes, length: int) -> bytes:
        payload = frame[_HEADER.size : _HEADER.size + length]
        expected = self._expect(self.frames, length)
        if payload != expected:
            wrong = next((i for i, (a, b) in enumerate(zip(payload, expected, strict=False)) if a != b), 0)
            at = self.received + _HEADER.size + wrong
            raise Corrupt("changed", at, f"payload of frame {self.frames} is wrong from its byte {wrong}")
        chain = zlib.crc32(frame[: -_CHAIN.size], self.chain)
        if frame[-_CHAIN.size :] != _CHAIN.pack(chain):
            raise Corrupt("changed", self.received, f"chain of frame {self.frames} does not match what came before it")
        self.chain = zlib.crc32(frame[-_CHAIN.size :], chain)
        self.frames += 1
        self.received += len(frame)
        return payload
