"""One connection at the moment of the cut, and how it crosses the wire.

A frozen process neither writes nor reads, so most of a connection can travel before the cut, while its socket is still
alive: everything negotiated, every socket option, and both queues as they stand. What is read behind the lock is
little: where the sequence numbers have got to, the windows, the clock, and the bytes that arrived since.

The stream of a migration is a row of records, each a 4-byte length and a body; where the stream is cut into batches
means nothing, so a queue of many megabytes still travels in small messages. All integers are big-endian.

    Early   kind 1; u16 length of head; head; snd_una, write_seq, read_seq; lengths of the two queues; the two queues
    head    VERSION, key, four-tuple, negotiated options, buffers, socket options
    Late    kind 2; number of its Early record (from 0, in the order of the stream); state, snd_una, snd_nxt, rcv_nxt,
            windows, clock; length of what arrived since; what arrived since

An Early without a Late is a connection that ended before the cut. Decoding trusts nothing: every length is bounded and
every byte must be accounted for.
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
CONNECTIONS_LIMIT = 1 << 20
NAME_LIMIT = 253
OPTIONS_LIMIT = 64
OPTION_SIZE_LIMIT = 64
BATCH_SIZE = 1 << 20
"""Size to cut the stream at before the cut, in bytes: a quarter of gRPC's default limit."""
CUT_BATCH_SIZE = 1 << 14
"""The same in the cut: some 250 connections, so that the target rebuilds while the source still reads."""

_EARLY, _LATE = 1, 2
_RECORD = struct.Struct("!IB")
"""Length of the body, kind."""
_EARLY_FIXED = struct.Struct("!HIIIII")
"""Length of head, snd_una, write_seq, read_seq, lengths of receive and send queue."""
_HEAD = struct.Struct("!BBBBHIIBII")
"""version, negotiated, snd_wscale, rcv_wscale, mss, sndbuf, rcvbuf, buf_lock, nspid, fd."""
_PORTS = struct.Struct("!HH")
_OPTION = struct.Struct("!HHB")
_LATE_FIXED = struct.Struct("!IBIIIIIIIIII")
"""number, state, snd_una, snd_nxt, rcv_nxt, the five of Window, ts_val, length of the rest."""


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


class Early(NamedTuple):
    """A connection of a frozen process as it stands before the cut."""

    head: Head
    snd_una: int
    write_seq: int
    """End of the send queue: nobody adds to it."""
    read_seq: int
    """First byte that the process has not read: nobody reads it."""
    receive_queue: bytes
    """From read_seq; more may arrive."""
    send_queue: bytes
    """snd_una … write_seq; the front may be acknowledged."""


class Late(NamedTuple):
    """What may have moved until the cut."""

    number: int
    state: state.State
    snd_una: int
    snd_nxt: int
    rcv_nxt: int
    window: Window
    ts_val: int
    """The timestamp clock (TSval) to go on from; 0 without timestamps."""
    arrived: bytes
    """What was received after the Early was read."""


class ConnectionSnapshot(NamedTuple):
    """One connection, whole: immutable, and comparable field by field."""

    head: Head
    state: state.State
    snd_una: int
    snd_nxt: int
    rcv_nxt: int
    window: Window
    ts_val: int
    receive_queue: bytes
    """Received and not read by the process: ends at rcv_nxt, or at the FIN just before it."""
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


def data_end(rcv_nxt: int, now: state.State) -> int:
    """Return where received data ends: a FIN takes a sequence number of its own (RFC 9293, 3.4)."""
    return sequence.add(rcv_nxt, -1) if now is state.State.CLOSE_WAIT else rcv_nxt


def join(early: Early, late: Late) -> ConnectionSnapshot:
    """Put both parts of a connection together.

    Raises:
        InvalidInput: they do not fit.
    """
    acknowledged = sequence.distance(early.snd_una, late.snd_una)
    if not 0 <= acknowledged <= len(early.send_queue):
        raise errors.InvalidInput("connections", f"snd_una of {early.head.four_tuple} lies outside its send queue")
    if not sequence.within(late.snd_nxt, late.snd_una, early.write_seq):
        raise errors.InvalidInput("connections", f"snd_nxt of {early.head.four_tuple} lies outside its send queue")
    received = early.receive_queue + late.arrived
    if sequence.add(early.read_seq, len(received)) != data_end(late.rcv_nxt, late.state):
        raise errors.InvalidInput("connections", f"rcv_nxt of {early.head.four_tuple} is not the end of its data")
    return ConnectionSnapshot(
        early.head,
        late.state,
        late.snd_una,
        late.snd_nxt,
        late.rcv_nxt,
        late.window,
        late.ts_val,
        received,
        early.send_queue[acknowledged:],
    )


def encode_early(early: Early) -> bytes:
    """Return the record of an Early."""
    head, received, send = _encode_head(early.head), early.receive_queue, early.send_queue
    fixed = _EARLY_FIXED.pack(len(head), early.snd_una, early.write_seq, early.read_seq, len(received), len(send))
    body = (fixed, head, received, send)
    return b"".join((_RECORD.pack(sum(map(len, body)), _EARLY), *body))


def encode_late(late: Late) -> bytes:
    """Return the record of a Late."""
    fixed = _LATE_FIXED.pack(*late[:5], *late.window, late.ts_val, len(late.arrived))
    return _RECORD.pack(len(fixed) + len(late.arrived), _LATE) + fixed + late.arrived


def _encode_head(head: Head) -> bytes:
    container = head.key.container.encode()
    negotiated, where = head.negotiated, head.four_tuple
    bits = (
        negotiated.window_scaling
        | negotiated.sack << 1
        | negotiated.timestamps << 2
        | negotiated.microseconds << 3
        | (len(where.local) == 16) << 4
    )
    scales = negotiated.snd_wscale, negotiated.rcv_wscale
    parts = [
        _HEAD.pack(VERSION, bits, *scales, negotiated.mss, *head.buffers, head.key.nspid, head.key.fd),
        bytes([len(container)]),
        container,
        where.local,
        where.peer,
        _PORTS.pack(where.local_port, where.peer_port),
    ]
    for option in head.options:
        parts += (_OPTION.pack(option.level, option.name, len(option.value)), option.value)
    return b"".join(parts)


def batches(records: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut the stream of `records` into pieces of at most `size` bytes."""
    pending = bytearray()
    for record in records:
        pending += record
        while len(pending) >= size:
            yield bytes(memoryview(pending)[:size])
            del pending[:size]
    if pending:
        yield bytes(pending)


class Decoder:
    """Turns a stream that arrives in batches back into records."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> bytes:
        """SHA-256 over everything fed so far, however it was cut."""
        return self._digest.digest()

    def feed(self, batch: bytes) -> list[Early | Late]:
        """Take one batch; return the records that it completes.

        Raises:
            InvalidInput: the stream is not what `encode_early` and `encode_late` make. The decoder is of no use then.
        """
        self._digest.update(batch)
        self._pending += batch
        found: list[Early | Late] = []
        start, end = 0, len(self._pending)
        while end - start >= _RECORD.size:
            length, kind = _RECORD.unpack_from(self._pending, start)
            if length > 2 * QUEUE_LIMIT + (1 << 17):
                raise errors.InvalidInput("connections", f"a record of {length} bytes")
            if end - start < _RECORD.size + length:
                break
            start += _RECORD.size
            found.append(_decode(kind, bytes(memoryview(self._pending)[start : start + length])))
            start += length
        del self._pending[:start]
        return found

    def finish(self) -> None:
        """Check that no record is left half received.

        Raises:
            InvalidInput: the stream ended inside a record.
        """
        if self._pending:
            raise errors.InvalidInput("connections", f"the last {len(self._pending)} bytes are no whole record")


def _decode(kind: int, body: bytes) -> Early | Late:
    try:
        if kind == _LATE:
            return _decode_late(body)
        if kind == _EARLY:
            return _decode_early(body)
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise errors.InvalidInput("connections", f"malformed record: {error}") from error
    raise errors.InvalidInput("connections", f"a record of kind {kind}")


def _decode_late(body: bytes) -> Late:
    number, now, snd_una, snd_nxt, rcv_nxt, *window, ts_val, length = _LATE_FIXED.unpack_from(body)
    if length != len(body) - _LATE_FIXED.size:
        raise ValueError(f"{length} bytes announced in a record of {len(body)}")
    arrived = body[_LATE_FIXED.size :]
    return Late(number, state.State(now), snd_una, snd_nxt, rcv_nxt, Window(*window), ts_val, arrived)


def _decode_early(body: bytes) -> Early:
    head_length, snd_una, write_seq, read_seq, received, send = _EARLY_FIXED.unpack_from(body)
    queues_at = _EARLY_FIXED.size + head_length
    if received > QUEUE_LIMIT or send > QUEUE_LIMIT or len(body) != queues_at + received + send:
        raise ValueError(f"queues of {received} and {send} bytes in a record of {len(body)}")
    if send != sequence.distance(snd_una, write_seq):
        raise ValueError("the send queue does not end at write_seq")
    return Early(
        _decode_head(body[_EARLY_FIXED.size : queues_at]),
        snd_una,
        write_seq,
        read_seq,
        body[queues_at : queues_at + received],
        body[queues_at + received :],
    )


def _decode_head(body: bytes) -> Head:
    version, bits, snd_wscale, rcv_wscale, mss, sndbuf, rcvbuf, locked, nspid, fd = _HEAD.unpack_from(body)
    if version != VERSION:
        raise ValueError(f"version {version}, expected {VERSION}")
    if bits >> 5 or snd_wscale > 14 or rcv_wscale > 14 or not mss or locked > 3 or not 0 < nspid < 1 << 31:
        raise ValueError("a negotiated value is out of range")
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
        raise ValueError("a name or a port is missing")
    return Head(
        Key(container, nspid, fd),
        four_tuple.FourTuple(local, local_port, peer, peer_port),
        Negotiated(mss, snd_wscale, rcv_wscale, bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8)),
        Buffers(sndbuf, rcvbuf, locked),
        _decode_options(body, position),
    )


def _decode_options(body: bytes, position: int) -> tuple[Option, ...]:
    options: list[Option] = []
    while position < len(body):
        level, name, length = _OPTION.unpack_from(body, position)
        position += _OPTION.size
        value = body[position : position + length]
        position += length
        if length > OPTION_SIZE_LIMIT or len(value) != length or len(options) == OPTIONS_LIMIT:
            raise ValueError("too many socket options, or too long")
        options.append(Option(level, name, value))
    return tuple(options)
