"""One connection taken apart and put together again with TCP_REPAIR (net/ipv4/tcp.c).

Taking apart has two halves. `begin` switches repair mode on and reads all that a frozen process cannot change any more;
the network still runs, since repair mode changes nothing about segments that come and go. `capture` reads the rest when
nothing moves any more, in as few system calls as there can be.

Putting together happens in the very socket that the restored process holds. The order matters: sequence numbers while
closed, then address and peer, then what was negotiated, then both queues, the window last. Data that was never sent is
handed over as an ordinary write after repair mode is off; before the window is set it can hang the connection.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
from dataclasses import dataclass

from podferry import errors
from podferry.tcp import four_tuple, sequence, snapshot, state
from podferry_agent.connections import options, tcp_info

_TCP = socket.IPPROTO_TCP
_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ, _TCP_REPAIR_OPTIONS = 19, 20, 21, 22
_TCP_TIMESTAMP, _TCP_REPAIR_WINDOW, _TCP_ULP = 24, 29, 31
_NO_QUEUE, _RECEIVE_QUEUE, _SEND_QUEUE = 0, 1, 2
_OFF_WITHOUT_PROBE = -1
_OPTION_MSS, _OPTION_WINDOW, _OPTION_SACK, _OPTION_TIMESTAMPS = 2, 3, 4, 8
_SIOCINQ, _SIOCOUTQ = 0x541B, 0x5411
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_BUF_LOCK = 32, 33, 72
_SNDBUF_LOCK = 1
_UINT = struct.Struct("=I")
_WINDOW = struct.Struct("=IIIII")
_REPAIR_OPTION = struct.Struct("=II")
_UNSPECIFIED = struct.pack("=H14x", socket.AF_UNSPEC)
_LIBC = ctypes.CDLL(None, use_errno=True)
_CHUNK = 1 << 16


@dataclass(slots=True)
class Taken:
    """A connection of the source in repair mode, with what turns TCP_INFO's counters into sequence numbers."""

    socket: socket.socket
    head: snapshot.Head
    encoded_head: bytes
    reuseaddr: bytes
    write_seq: int
    """End of the send queue: the process is frozen, so nothing is added."""
    read_seq: int
    """First byte that the process has not read."""
    acked_base: int
    """snd_una - tcpi_bytes_acked."""
    received_base: int
    """rcv_nxt - tcpi_bytes_received."""

    def snd_una(self, info: tcp_info.TcpInfo) -> int:
        """The oldest unacknowledged sequence number."""
        return sequence.add(self.acked_base, info.bytes_acked)

    def snd_nxt(self, info: tcp_info.TcpInfo) -> int:
        """The next sequence number to send."""
        return sequence.add(self.write_seq, -info.notsent)

    def rcv_nxt(self, info: tcp_info.TcpInfo) -> int:
        """The next sequence number expected."""
        return sequence.add(self.received_base, info.bytes_received)


def in_repair(connection: socket.socket) -> bool:
    """Tell whether `connection` is in repair mode."""
    return bool(connection.getsockopt(_TCP, _TCP_REPAIR))


def upper_protocol(connection: socket.socket) -> str:
    """Return the name of the upper-layer protocol (TCP_ULP) on a connection, "" when there is none."""
    try:
        return connection.getsockopt(_TCP, _TCP_ULP, 16).rstrip(b"\0").decode()
    except OSError:
        return ""


# --- source


def begin(
    connection: socket.socket, key: snapshot.Key, where: four_tuple.FourTuple, fresh: options.Values
) -> Taken | None:
    """Switch repair mode on and read what is constant; None when the connection ended meanwhile.

    `fresh` are the options of a socket that nobody touched.
    """
    chosen = options.differing(connection, fresh)
    reuseaddr = connection.getsockopt(*options.REUSEADDR, 4)
    buffers = snapshot.Buffers(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        connection.getsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK),
    )
    connection.setsockopt(_TCP, _TCP_REPAIR, 1)
    while True:
        before = tcp_info.read(connection)
        if before.state != state.State.ESTABLISHED:
            release(connection, reuseaddr)
            return None
        rcv_nxt, write_seq = _queue_seq(connection, _RECEIVE_QUEUE), _queue_seq(connection, _SEND_QUEUE)
        unread, outstanding = _count(connection, _SIOCINQ), _count(connection, _SIOCOUTQ)
        info = tcp_info.read(connection)
        if (info.bytes_acked, info.bytes_received) == (before.bytes_acked, before.bytes_received):
            break
    connection.setsockopt(_TCP, _TCP_REPAIR_QUEUE, _NO_QUEUE)
    negotiated = snapshot.Negotiated(
        mss=connection.getsockopt(_TCP, socket.TCP_MAXSEG),
        snd_wscale=info.wscale & 15,
        rcv_wscale=info.wscale >> 4,
        window_scaling=bool(info.options & tcp_info.OPTION_WINDOW_SCALE),
        sack=bool(info.options & tcp_info.OPTION_SACK),
        timestamps=bool(info.options & tcp_info.OPTION_TIMESTAMPS),
        microseconds=bool(info.options & tcp_info.OPTION_MICROSECONDS),
    )
    head = snapshot.Head(key, where, state.State(info.state), negotiated, buffers, chosen)
    return Taken(
        socket=connection,
        head=head,
        encoded_head=snapshot.encode_head(head),
        reuseaddr=reuseaddr,
        write_seq=write_seq,
        read_seq=sequence.add(rcv_nxt, -unread),
        acked_base=sequence.add(write_seq, -outstanding - info.bytes_acked),
        received_base=sequence.add(rcv_nxt, -info.bytes_received),
    )


def capture(taken: Taken) -> snapshot.ConnectionSnapshot | None:
    """Read what could still move; called behind the lock. None when the connection ended before it.

    Raises:
        RolledBack: it is in a state that cannot be moved (reason ConnectionChanged), or its queues cannot be read.
    """
    connection = taken.socket
    info = tcp_info.read(connection)
    if info.state == state.State.CLOSE:
        return None
    if info.state != state.State.ESTABLISHED:
        name = state.State(info.state).name
        raise errors.RolledBack(f"{taken.head.four_tuple} went to {name}", reason="ConnectionChanged")
    snd_una, rcv_nxt = taken.snd_una(info), taken.rcv_nxt(info)
    window = snapshot.Window(*_WINDOW.unpack(connection.getsockopt(_TCP, _TCP_REPAIR_WINDOW, _WINDOW.size)))
    unread, outstanding = sequence.distance(taken.read_seq, rcv_nxt), sequence.distance(snd_una, taken.write_seq)
    return snapshot.ConnectionSnapshot(
        taken.head,
        snd_una,
        taken.snd_nxt(info),
        rcv_nxt,
        window,
        _next_ts_val(connection, taken.head.negotiated),
        _peek(connection, _RECEIVE_QUEUE, unread) if unread else b"",
        _peek(connection, _SEND_QUEUE, outstanding) if outstanding else b"",
    )


def ts_val(connection: socket.socket) -> int:
    """Return the connection's timestamp clock: what its kernel would send now, or one tick less.

    Since Linux 6.7 the lowest bit says whether the unit is microseconds, so it is no part of the value.
    """
    return connection.getsockopt(_TCP, _TCP_TIMESTAMP) & 0xFFFFFFFE


def read_window(connection: socket.socket) -> snapshot.Window:
    """Return both windows of a connection in repair mode."""
    return snapshot.Window(*_WINDOW.unpack(connection.getsockopt(_TCP, _TCP_REPAIR_WINDOW, _WINDOW.size)))


def release(connection: socket.socket, reuseaddr: bytes | None) -> None:
    """Switch repair mode off without the kernel's window probe, and give SO_REUSEADDR its value back."""
    connection.setsockopt(_TCP, _TCP_REPAIR, _OFF_WITHOUT_PROBE)
    if reuseaddr is not None:
        connection.setsockopt(*options.REUSEADDR, reuseaddr)


def push(connection: socket.socket) -> None:
    """Let the kernel send what it held back: what was refused at the gate waits for a timer otherwise."""
    corked = connection.getsockopt(_TCP, socket.TCP_CORK)
    connection.setsockopt(_TCP, socket.TCP_CORK, 0)
    if corked:
        connection.setsockopt(_TCP, socket.TCP_CORK, 1)


def _next_ts_val(connection: socket.socket, negotiated: snapshot.Negotiated) -> int:
    # Two ticks on: past the lowest bit that was masked away, so that the clock never goes back.
    return sequence.add(ts_val(connection), 2) if negotiated.timestamps else 0


def _queue_seq(connection: socket.socket, queue: int) -> int:
    connection.setsockopt(_TCP, _TCP_REPAIR_QUEUE, queue)
    return connection.getsockopt(_TCP, _TCP_QUEUE_SEQ) & 0xFFFFFFFF


def _count(connection: socket.socket, request: int) -> int:
    buffer = bytearray(_UINT.size)
    fcntl.ioctl(connection.fileno(), request, buffer)
    return int.from_bytes(buffer, "little")


def _peek(connection: socket.socket, queue: int, size: int) -> bytes:
    connection.setsockopt(_TCP, _TCP_REPAIR_QUEUE, queue)
    data = connection.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    connection.setsockopt(_TCP, _TCP_REPAIR_QUEUE, _NO_QUEUE)
    if len(data) != size:
        raise errors.RolledBack(f"read {len(data)} of {size} queued bytes", reason="QueueUnreadable")
    return data


# --- target


def rebuild(connection: socket.socket, image: snapshot.ConnectionSnapshot) -> None:
    """Put a connection together in a socket that is not connected; it is left in repair mode, its unsent data outside.

    Raises:
        Permanent: the kernel refused a step.
    """
    try:
        _disconnect(connection)
        connection.setsockopt(_TCP, _TCP_REPAIR, 1)
        _place(connection, image)
        _negotiate(connection, image)
        _fill(connection, image)
        connection.setsockopt(_TCP, _TCP_REPAIR_WINDOW, _WINDOW.pack(*image.window))
    except OSError as error:
        raise errors.Permanent(f"cannot rebuild {image.head.four_tuple}: {error}", reason="RebuildFailed") from error


def complete(connection: socket.socket, image: snapshot.ConnectionSnapshot) -> bool:
    """Tell whether an earlier `rebuild` of `image` in this socket reached its last step."""
    info = tcp_info.read(connection)
    return info.state == image.head.state and (not in_repair(connection) or read_window(connection) == image.window)


def send_unsent(connection: socket.socket, image: snapshot.ConnectionSnapshot) -> None:
    """Write the data that the source never sent, repair mode being off; what an earlier call wrote is not repeated.

    The process must not have run since the rebuild, or an earlier call must have finished.
    """
    unsent = image.unsent
    if not unsent:
        return
    info = tcp_info.read(connection)
    written = info.bytes_acked + _count(connection, _SIOCOUTQ) - len(image.unacknowledged)
    _write(connection, unsent[written:], image.head.buffers)


def _disconnect(connection: socket.socket) -> None:
    """Clear the shutdown flag that CRIU leaves on a connection that it closed."""
    if _LIBC.connect(connection.fileno(), _UNSPECIFIED, len(_UNSPECIFIED)):
        raise OSError(ctypes.get_errno(), "connect(AF_UNSPEC)")


def _place(connection: socket.socket, image: snapshot.ConnectionSnapshot) -> None:
    _set_seq(connection, _SEND_QUEUE, image.snd_una)
    _set_seq(connection, _RECEIVE_QUEUE, sequence.add(image.rcv_nxt, -len(image.receive_queue)))
    _set_buffers(connection, image.head.buffers)
    where = image.head.four_tuple
    family = connection.family
    connection.bind((socket.inet_ntop(family, where.local), where.local_port))
    connection.connect((socket.inet_ntop(family, where.peer), where.peer_port))


def _negotiate(connection: socket.socket, image: snapshot.ConnectionSnapshot) -> None:
    negotiated = image.head.negotiated
    # Without window scaling both scales are 0; saying so undoes the scale that connect() chose for itself.
    agreed = [
        _REPAIR_OPTION.pack(_OPTION_WINDOW, negotiated.snd_wscale | negotiated.rcv_wscale << 16),
        _REPAIR_OPTION.pack(_OPTION_MSS, negotiated.mss),
    ]
    if negotiated.sack:
        agreed.append(_REPAIR_OPTION.pack(_OPTION_SACK, 0))
    if negotiated.timestamps:
        agreed.append(_REPAIR_OPTION.pack(_OPTION_TIMESTAMPS, 0))
    connection.setsockopt(_TCP, _TCP_REPAIR_OPTIONS, b"".join(agreed))
    if negotiated.timestamps:
        connection.setsockopt(_TCP, _TCP_TIMESTAMP, _UINT.pack(image.ts_val & 0xFFFFFFFE | negotiated.microseconds))
    options.apply(connection, image.head.options)


def _fill(connection: socket.socket, image: snapshot.ConnectionSnapshot) -> None:
    for queue, data in ((_RECEIVE_QUEUE, image.receive_queue), (_SEND_QUEUE, image.unacknowledged)):
        if data:
            connection.setsockopt(_TCP, _TCP_REPAIR_QUEUE, queue)
            _write(connection, data, image.head.buffers)
    connection.setsockopt(_TCP, _TCP_REPAIR_QUEUE, _NO_QUEUE)


def _set_seq(connection: socket.socket, queue: int, number: int) -> None:
    connection.setsockopt(_TCP, _TCP_REPAIR_QUEUE, queue)
    connection.setsockopt(_TCP, _TCP_QUEUE_SEQ, _UINT.pack(number))


def _set_buffers(connection: socket.socket, buffers: snapshot.Buffers) -> None:
    """Set both sizes and then which of them are fixed: a forced size would switch the kernel's tuning off."""
    connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, buffers.sndbuf // 2)
    connection.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffers.rcvbuf // 2)
    connection.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, buffers.locked)


def _write(connection: socket.socket, data: bytes, buffers: snapshot.Buffers) -> None:
    """Write all of `data` into the chosen queue; a buffer that is too small for its own content grows."""
    view, sndbuf, rcvbuf = memoryview(data), buffers.sndbuf, buffers.rcvbuf
    while view:
        try:
            view = view[connection.send(view[:_CHUNK], socket.MSG_DONTWAIT) :]
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.ENOMEM} or sndbuf > 2 * snapshot.QUEUE_LIMIT:
                raise
            sndbuf, rcvbuf = sndbuf * 2, rcvbuf * 2
            _set_buffers(connection, buffers._replace(sndbuf=sndbuf, rcvbuf=rcvbuf))
    if sndbuf != buffers.sndbuf:
        _set_buffers(connection, buffers)
