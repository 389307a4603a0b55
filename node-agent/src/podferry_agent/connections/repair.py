"""TCP_REPAIR, call by call (net/ipv4/tcp.c): what `taking` and `rebuilding` are made of.

Repair mode changes nothing about segments that come and go; it lets its holder read and set what the protocol decides
otherwise, and it makes closing a socket silent. Switching it on hides SO_REUSEADDR, switching it off clears it.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from podferry import errors
from podferry.tcp import four_tuple, snapshot
from podferry_agent.connections import options

_TCP = socket.IPPROTO_TCP
_REPAIR, _QUEUE, _QUEUE_SEQ, _OPTIONS = 19, 20, 21, 22
_TIMESTAMP, _WINDOW, _ULP = 24, 29, 31
_OFF_WITHOUT_PROBE = -1
NO_QUEUE, RECEIVE_QUEUE, SEND_QUEUE = 0, 1, 2
_OPTION_MSS, _OPTION_WINDOW, _OPTION_SACK, _OPTION_TIMESTAMPS = 2, 3, 4, 8
SIOCINQ, SIOCOUTQ = 0x541B, 0x5411
_UINT = struct.Struct("=I")
_WINDOW_FIELDS = struct.Struct("=IIIII")
_PAIR = struct.Struct("=II")
_UNSPECIFIED = struct.pack("=H14x", socket.AF_UNSPEC)
_LARGEST_MAXSEG = 32767
_LIBC = ctypes.CDLL(None, use_errno=True)


def switch_on(connection: socket.socket) -> None:
    """Switch repair mode on."""
    connection.setsockopt(_TCP, _REPAIR, 1)


def switch_off(connection: socket.socket) -> None:
    """Switch repair mode off, without the window probe that the kernel could send; SO_REUSEADDR is off afterwards."""
    connection.setsockopt(_TCP, _REPAIR, _OFF_WITHOUT_PROBE)


def release(connection: socket.socket, reuseaddr: bytes) -> None:
    """Switch repair mode off and give SO_REUSEADDR its value back."""
    switch_off(connection)
    connection.setsockopt(*options.REUSEADDR, reuseaddr)


def is_on(connection: socket.socket) -> bool:
    """Tell whether `connection` is in repair mode."""
    return bool(connection.getsockopt(_TCP, _REPAIR))


def select(connection: socket.socket, queue: int) -> None:
    """Choose the queue that reading, writing and sequence numbers are about; NO_QUEUE: none, as outside of repair."""
    connection.setsockopt(_TCP, _QUEUE, queue)


def get_seq(connection: socket.socket, queue: int) -> int:
    """Return the sequence number at the end of a queue: rcv_nxt or write_seq; the queue stays selected."""
    select(connection, queue)
    return connection.getsockopt(_TCP, _QUEUE_SEQ) & 0xFFFFFFFF


def set_seq(connection: socket.socket, queue: int, number: int) -> None:
    """Set where a queue begins, in a socket that is not connected; the queue stays selected."""
    select(connection, queue)
    connection.setsockopt(_TCP, _QUEUE_SEQ, _UINT.pack(number))


def count(connection: socket.socket, request: int) -> int:
    """Return SIOCINQ (bytes to read) or SIOCOUTQ (bytes not acknowledged)."""
    buffer = bytearray(_UINT.size)
    fcntl.ioctl(connection.fileno(), request, buffer)
    return int(_UINT.unpack(buffer)[0])


def peek(connection: socket.socket, queue: int, size: int) -> bytes:
    """Return the first `size` bytes of a queue and leave them there.

    Raises:
        RolledBack: there are fewer (reason QueueUnreadable).
    """
    if not size:
        return b""
    select(connection, queue)
    data = connection.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    select(connection, NO_QUEUE)
    if len(data) != size:
        raise errors.RolledBack(f"read {len(data)} of {size} queued bytes", reason="QueueUnreadable")
    return data


def get_window(connection: socket.socket) -> snapshot.Window:
    """Return both windows of a connection in repair mode."""
    return snapshot.Window(*_WINDOW_FIELDS.unpack(connection.getsockopt(_TCP, _WINDOW, _WINDOW_FIELDS.size)))


def set_window(connection: socket.socket, window: snapshot.Window) -> None:
    """Set both windows of a connection in repair mode, after both queues."""
    connection.setsockopt(_TCP, _WINDOW, _WINDOW_FIELDS.pack(*window))


def get_mss(connection: socket.socket) -> int:
    """Return the negotiated limit of a segment to send (mss_clamp) of a connection in repair mode."""
    return connection.getsockopt(_TCP, socket.TCP_MAXSEG)


def get_clock(connection: socket.socket) -> int:
    """Return the connection's timestamp clock: the TSval that its kernel would send now, or one tick less.

    Since Linux 6.7 the lowest bit says whether a tick is a microsecond, so it is no part of the value. Late by a tick
    is harmless to a peer (its check of timestamps allows one); early would not be.
    """
    return connection.getsockopt(_TCP, _TIMESTAMP) & 0xFFFFFFFE


def set_clock(connection: socket.socket, value: int, *, microseconds: bool) -> None:
    """Let the timestamp clock of a connection in repair mode go on from `value`."""
    connection.setsockopt(_TCP, _TIMESTAMP, _UINT.pack(value & 0xFFFFFFFE | microseconds))


def set_negotiated(connection: socket.socket, negotiated: snapshot.Negotiated) -> None:
    """Set what the handshake agreed on, in a connection in repair mode.

    Without window scaling both scales are 0; saying so undoes the scale that connect() chose for itself.
    """
    agreed = _PAIR.pack(_OPTION_WINDOW, negotiated.snd_wscale | negotiated.rcv_wscale << 16)
    agreed += _PAIR.pack(_OPTION_MSS, negotiated.mss)
    if negotiated.sack:
        agreed += _PAIR.pack(_OPTION_SACK, 0)
    if negotiated.timestamps:
        agreed += _PAIR.pack(_OPTION_TIMESTAMPS, 0)
    connection.setsockopt(_TCP, _OPTIONS, agreed)


def connect(connection: socket.socket, where: four_tuple.FourTuple, mss: int) -> None:
    """Connect a bound socket in repair mode: it is ESTABLISHED at once, without a segment.

    The kernel computes the segment size that it uses here, from its default of 536 bytes unless the socket has one of
    its own (tcp_connect_init); what is negotiated comes too late for it. So the socket has one for this moment.
    """
    connection.setsockopt(_TCP, socket.TCP_MAXSEG, min(mss, _LARGEST_MAXSEG))
    connection.connect((socket.inet_ntop(connection.family, where.peer), where.peer_port))
    connection.setsockopt(_TCP, socket.TCP_MAXSEG, 0)


def disconnect(connection: socket.socket) -> None:
    """Make a socket fresh again: clears the shutdown flag that CRIU leaves on a connection that it closed."""
    if _LIBC.connect(connection.fileno(), _UNSPECIFIED, len(_UNSPECIFIED)):
        raise OSError(ctypes.get_errno(), "connect(AF_UNSPEC)")


def push(connection: socket.socket) -> None:
    """Let the kernel send at once what it held back: what was refused at the gate waits for a timer otherwise."""
    corked = connection.getsockopt(_TCP, socket.TCP_CORK)
    connection.setsockopt(_TCP, socket.TCP_CORK, 0)
    if corked:
        connection.setsockopt(_TCP, socket.TCP_CORK, 1)


def upper_protocol(connection: socket.socket) -> str:
    """Return the name of the upper-layer protocol (TCP_ULP) on a connection, "" when there is none."""
    try:
        return connection.getsockopt(_TCP, _ULP, 16).rstrip(b"\0").decode()
    except OSError:
        return ""
