"""One connection at the moment of the cut, and how it crosses the wire.

The stream of a migration is a row of records, each a 4-byte length and a body; where the stream is cut into batches
means nothing, so a queue of many megabytes still travels in small messages. All integers are big-endian.

    record     u32 length of body; body
    body       u16 length of head; head; MOVING; receive queue; send queue
    head       VERSION, key, four-tuple, negotiated options, socket options: what a frozen process cannot change
    MOVING     sequence numbers, windows, clock and the lengths of the two queues: what is read at the last moment

The head is encoded while the network still runs. Decoding trusts nothing: every length is bounded and every byte must
be accounted for.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from podferry import errors
from podferry.tcp import four_tuple, sequence, state

VERSION = 1
QUEUE_LIMIT = 128 << 20
"""Longest queue, in bytes: above the largest buffer that net.ipv4.tcp_rmem and tcp_wmem are set to in practice."""
NAME_LIMIT = 253
OPTIONS_LIMIT = 64
OPTION_SIZE_LIMIT = 64
BATCH_SIZE = 1 << 20
"""Size to cut the stream at, in bytes: a quarter of gRPC's default limit."""

_LENGTH = struct.Struct("!I")
_HEAD_LENGTH = struct.Struct("!H")
_HEAD = struct.Struct("!BBBBBHIIBII")
"""version, state, negotiated, snd_wscale, rcv_wscale, mss, sndbuf, rcvbuf, buf_lock, nspid, fd."""
_PORTS = struct.Struct("!HH")
_OPTION = struct.Struct("!HHB")
_MOVING = struct.Struct("!IIIIIIIIIII")
"""snd_una, snd_nxt, rcv_nxt, snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup, ts_val, receive queue, send queue."""


class Key(NamedTuple):
    """Where a connection's socket is found again after the restore: a file descriptor of a restored process."""

    container: str
    nspid: int
    """The process id inside the container's own pid namespace, which CRIU keeps."""
    fd: int


class Option(NamedTuple):
    """One socket option whose value differs from a fresh socket's."""

    level: int
    name: int
    value: bytes


class Negotiated(NamedTuple):
    """What both ends agreed on in the handshake."""

    mss: int
    """The largest segment to send (the kernel's mss_clamp), in bytes."""
    snd_wscale: int
    rcv_wscale: int
    window_scaling: bool
    sack: bool
    timestamps: bool
    microseconds: bool
    """The timestamp clock ticks in microseconds (Linux 6.7 and later) instead of milliseconds."""


class Buffers(NamedTuple):
    """Sizes of the socket's buffers as getsockopt shows them (twice what setsockopt takes)."""

    sndbuf: int
    rcvbuf: int
    locked: int
    """SO_BUF_LOCK: which of them the application fixed, so that the kernel no longer tunes them."""


class Head(NamedTuple):
    """What cannot change while the process is frozen."""

    key: Key
    four_tuple: four_tuple.FourTuple
    state: state.State
    negotiated: Negotiated
    buffers: Buffers
    options: tuple[Option, ...]


class Window(NamedTuple):
    """The two windows, as the kernel's TCP_REPAIR_WINDOW has them; sequence numbers and bytes."""

    snd_wl1: int
    snd_wnd: int
    max_window: int
    rcv_wnd: int
    rcv_wup: int


class ConnectionSnapshot(NamedTuple):
    """One connection, whole: immutable, and comparable field by field."""

    head: Head
    snd_una: int
    snd_nxt: int
    rcv_nxt: int
    window: Window
    ts_val: int
    """The timestamp clock (TSval) to go on from; 0 without timestamps."""
    receive_queue: bytes
    """Received and not read by the process: ends at rcv_nxt."""
    send_queue: bytes
    """From snd_una: first what was sent and not acknowledged (up to snd_nxt), then what was never sent."""

    @property
    def unacknowledged(self) -> bytes:
        """The part of the send queue that was sent: snd_una … snd_nxt."""
        return self.send_queue[: sequence.distance(self.snd_una, self.snd_nxt)]

    @property
    def unsent(self) -> bytes:
        """The part of the send queue that was never sent: from snd_nxt."""
        return self.send_queue[sequence.distance(self.snd_una, self.snd_nxt) :]


def encode_head(head: Head) -> bytes:
    """Return the head's encoding: done before the cut, while nobody waits."""
    container = head.key.container.encode()
    negotiated = head.negotiated
    bits = (
        negotiated.window_scaling
        | negotiated.sack << 1
        | negotiated.timestamps << 2
        | negotiated.microseconds << 3
        | (len(head.four_tuple.local) == 16) << 4
    )
    fixed = _HEAD.pack(
        VERSION,
        head.state,
        bits,
        negotiated.snd_wscale,
        negotiated.rcv_wscale,
        negotiated.mss,
        head.buffers.sndbuf,
        head.buffers.rcvbuf,
        head.buffers.locked,
        head.key.nspid,
        head.key.fd,
    )
    where = head.four_tuple
    parts = [
        fixed,
        bytes([len(container)]),
        container,
        where.local,
        where.peer,
        _PORTS.pack(where.local_port, where.peer_port),
    ]
    for option in head.options:
        parts += (_OPTION.pack(option.level, option.name, len(option.value)), option.value)
    return b"".join(parts)


def encode_record(head: bytes, snapshot: ConnectionSnapshot) -> bytes:
    """Return the record of `snapshot`, whose head is already encoded as `head`."""
    received, send = snapshot.receive_queue, snapshot.send_queue
    moving = _MOVING.pack(
        snapshot.snd_una,
        snapshot.snd_nxt,
        snapshot.rcv_nxt,
        *snapshot.window,
        snapshot.ts_val,
        len(received),
        len(send),
    )
    length = _HEAD_LENGTH.size + len(head) + len(moving) + len(received) + len(send)
    return b"".join((_LENGTH.pack(length), _HEAD_LENGTH.pack(len(head)), head, moving, received, send))


def encode(snapshot: ConnectionSnapshot) -> bytes:
    """Return the record of `snapshot`."""
    return encode_record(encode_head(snapshot.head), snapshot)


def batches(records: Iterable[bytes], size: int = BATCH_SIZE) -> Iterator[bytes]:
    """Cut the stream of `records` into pieces of at most `size` bytes."""
    pending = bytearray()
    for record in records:
        pending += record
        while len(pending) >= size:
            yield bytes(pending[:size])
            del pending[:size]
    if pending:
        yield bytes(pending)


def digest(stream: Iterable[bytes]) -> bytes:
    """Return the SHA-256 over a whole stream, however it is cut into batches."""
    running = hashlib.sha256()
    for piece in stream:
        running.update(piece)
    return running.digest()


class Decoder:
    """Turns a stream that arrives in batches back into snapshots."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._digest = hashlib.sha256()
        self.count = 0

    @property
    def digest(self) -> bytes:
        """SHA-256 over everything fed so far."""
        return self._digest.digest()

    def feed(self, batch: bytes) -> list[ConnectionSnapshot]:
        """Take one batch; return the connections that it completes.

        Raises:
            InvalidInput: the stream is not what `encode` makes. The decoder is of no use afterwards.
        """
        self._digest.update(batch)
        self._pending += batch
        found: list[ConnectionSnapshot] = []
        start, end = 0, len(self._pending)
        while end - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._pending, start)
            if length > 2 * QUEUE_LIMIT + (1 << 16):
                raise errors.InvalidInput("connections", f"a record of {length} bytes")
            if end - start < _LENGTH.size + length:
                break
            start += _LENGTH.size
            found.append(_decode(bytes(memoryview(self._pending)[start : start + length])))
            start += length
        del self._pending[:start]
        self.count += len(found)
        return found

    def finish(self) -> None:
        """Check that no record is left half received.

        Raises:
            InvalidInput: the stream ended inside a record.
        """
        if self._pending:
            raise errors.InvalidInput("connections", f"the last {len(self._pending)} bytes are no whole record")


def _decode(body: bytes) -> ConnectionSnapshot:
    try:
        (head_length,) = _HEAD_LENGTH.unpack_from(body)
        moving_at = _HEAD_LENGTH.size + head_length
        *numbers, received, send = _MOVING.unpack_from(body, moving_at)
        head = _decode_head(body[_HEAD_LENGTH.size : moving_at])
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise errors.InvalidInput("connections", f"malformed record: {error}") from error
    queues_at = moving_at + _MOVING.size
    if received > QUEUE_LIMIT or send > QUEUE_LIMIT or len(body) != queues_at + received + send:
        raise errors.InvalidInput("connections", f"queues of {received} and {send} bytes in a record of {len(body)}")
    snd_una, snd_nxt, rcv_nxt, *window, ts_val = numbers
    if not sequence.within(snd_nxt, snd_una, sequence.add(snd_una, send)):
        raise errors.InvalidInput("connections", "snd_nxt lies outside the send queue")
    return ConnectionSnapshot(
        head,
        snd_una,
        snd_nxt,
        rcv_nxt,
        Window(*window),
        ts_val,
        body[queues_at : queues_at + received],
        body[queues_at + received :],
    )


def _decode_head(body: bytes) -> Head:
    version, number, bits, snd_wscale, rcv_wscale, mss, sndbuf, rcvbuf, locked, nspid, fd = _HEAD.unpack_from(body)
    if version != VERSION:
        raise errors.InvalidInput("connections", f"version {version}, expected {VERSION}")
    if bits >> 5 or snd_wscale > 14 or rcv_wscale > 14 or not mss or locked > 3 or not 0 < nspid < 1 << 31:
        raise errors.InvalidInput("connections", "a negotiated value is out of range")
    position = _HEAD.size
    name_length = body[position]
    container = body[position + 1 : position + 1 + name_length].decode()
    position += 1 + name_length
    size = 16 if bits & 16 else 4
    local, peer = body[position : position + size], body[position + size : position + 2 * size]
    position += 2 * size
    local_port, peer_port = _PORTS.unpack_from(body, position)
    position += _PORTS.size
    if not container or name_length > NAME_LIMIT or not local_port or not peer_port:
        raise errors.InvalidInput("connections", "a name or a port is missing")
    options: list[Option] = []
    while position < len(body):
        level, name, value_length = _OPTION.unpack_from(body, position)
        position += _OPTION.size
        value = body[position : position + value_length]
        position += value_length
        if value_length > OPTION_SIZE_LIMIT or len(value) != value_length or len(options) == OPTIONS_LIMIT:
            raise errors.InvalidInput("connections", "too many socket options, or too long")
        options.append(Option(level, name, value))
    return Head(
        Key(container, nspid, fd),
        four_tuple.FourTuple(local, local_port, peer, peer_port),
        state.State(number),
        Negotiated(mss, snd_wscale, rcv_wscale, bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8)),
        Buffers(sndbuf, rcvbuf, locked),
        tuple(options),
    )
