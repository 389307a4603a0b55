"""One connection put together again, in the very socket that the restored process holds.

The order matters: sequence numbers while closed, then address and peer, then what was negotiated, then both queues, the
window last. Data that was never sent is handed over as an ordinary write after repair mode is off; before the window is
set it can hang the connection. What the cut cannot change any more is done by `prepare`, before it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from podferry import errors
from podferry.tcp import four_tuple, sequence, snapshot, state
from podferry_agent.connections import audit, options, repair, tcp_info, wakeup
from podferry_agent.net import segments

_SNDBUFFORCE, _RCVBUFFORCE, _BUF_LOCK = 32, 33, 72
_CHUNK = 1 << 16
_FIN_SECONDS = 1.0
_ENDED_BEFORE = "closed: ended by its peer before the cut"

Inject = Callable[[segments.Flow, bytes], None]


@dataclass(slots=True)
class Rebuilding:
    """A connection on its way; `image` is set when it is complete."""

    socket: socket.socket
    early: snapshot.Early
    flow: segments.Flow
    connected: bool = False
    in_repair: bool = False
    image: snapshot.ConnectionSnapshot | None = None
    announcement: wakeup.Announcement | None = None

    @property
    def where(self) -> four_tuple.FourTuple:
        """The connection's four-tuple."""
        return self.early.head.four_tuple

    def announce(self) -> None:
        """Have `announcement` say what announces the window of a complete connection."""
        image, negotiated = self.image, self.early.head.negotiated
        if image is not None and self.announcement is None:
            self.announcement = wakeup.Announcement(
                self.socket,
                self.flow,
                image.snd_nxt,
                image.rcv_nxt,
                wakeup.header_window(image.window, image.rcv_nxt, negotiated.rcv_wscale),
                negotiated.timestamps,
                0,
                audit.ConnectionAudit(self.where, image.state, len(image.receive_queue) + len(image.send_queue)),
            )

    def fate(self) -> audit.ConnectionAudit:
        """Return what has become of the connection."""
        if self.announcement is not None:
            return self.announcement.audit
        return audit.ConnectionAudit(self.where, state.State.CLOSE, fate=_ENDED_BEFORE)


@contextlib.contextmanager
def _translated(where: four_tuple.FourTuple) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failed(where, error) from error


def _failed(where: four_tuple.FourTuple, error: OSError) -> errors.Permanent:
    return errors.Permanent(f"cannot rebuild {where}: {error}", reason="RebuildFailed")


def adopt(connection: socket.socket | None, early: snapshot.Early) -> Rebuilding:
    """Stand by for a connection in `connection` without touching it; None: its process does not hold it any more."""
    where, negotiated = early.head.four_tuple, early.head.negotiated
    if connection is None:
        connection = socket.socket(where.family, socket.SOCK_STREAM)
        connection.close()
    return Rebuilding(connection, early, segments.Flow(where, timestamps=negotiated.timestamps))


def prepare(rebuilding: Rebuilding) -> None:
    """Do all that the cut cannot change; the socket must not be connected, and the flows locked.

    Without anything in the send queue no sequence number can change that the process sees, so the connection is made
    and its receive queue filled already here; else both have to wait for `finish`.

    Raises:
        Permanent: the kernel refused a step.
    """
    connection, early = rebuilding.socket, rebuilding.early
    where = early.head.four_tuple
    with _translated(where):
        repair.disconnect(connection)
        repair.switch_on(connection)
        _set_buffers(connection, early.head.buffers)
        options.apply(connection, early.head.options)
        connection.bind((socket.inet_ntop(connection.family, where.local), where.local_port))
        if not early.send_queue:
            _connect(rebuilding, early.snd_una)


def finish(rebuilding: Rebuilding, late: snapshot.Late, inject: Inject) -> None:
    """Complete a connection; it is left in repair mode, its unsent data outside.

    Raises:
        InvalidInput: `late` does not fit what was prepared.
        Permanent: the kernel refused a step.
    """
    connection, early = rebuilding.socket, rebuilding.early
    image, negotiated, buffers = snapshot.join(early, late), early.head.negotiated, early.head.buffers
    try:
        if not rebuilding.connected:
            _connect(rebuilding, image.snd_una)
        _fill(connection, repair.RECEIVE_QUEUE, late.arrived, buffers)
        _fill(connection, repair.SEND_QUEUE, image.unacknowledged, buffers)
        if negotiated.timestamps:
            repair.set_clock(connection, image.ts_val, microseconds=negotiated.microseconds)
        if image.state is state.State.CLOSE_WAIT:
            _receive_fin(rebuilding, image, inject)
        repair.set_window(connection, image.window)
    except OSError as error:
        raise _failed(rebuilding.where, error) from error
    rebuilding.image, rebuilding.in_repair = image, True


def take_up(rebuilding: Rebuilding, late: snapshot.Late) -> bool:
    """Take up a connection that another engine completed in this socket; tell whether it had.

    Raises:
        InvalidInput: `late` does not fit.
    """
    connection, image = rebuilding.socket, snapshot.join(rebuilding.early, late)
    with _translated(rebuilding.where):
        if tcp_info.read(connection).state == state.State.CLOSE:
            return False
        if repair.is_on(connection) and repair.get_window(connection) != image.window:
            return False
        where = rebuilding.where
        if connection.getpeername()[:2] != (socket.inet_ntop(where.family, where.peer), where.peer_port):
            return False  # the process has long gone on, and uses the descriptor for something else
    rebuilding.connected, rebuilding.image, rebuilding.in_repair = True, image, repair.is_on(connection)
    return True


def abandon(rebuilding: Rebuilding) -> None:
    """Close a prepared connection that has ended on the source meanwhile: its process finds an error or the end."""
    with _translated(rebuilding.where):
        repair.disconnect(rebuilding.socket)
        repair.switch_off(rebuilding.socket)


def release(rebuilding: Rebuilding) -> None:
    """Let a complete connection live; the flows are still locked. Nothing if it lives already."""
    if rebuilding.in_repair:
        repair.switch_off(rebuilding.socket)
        rebuilding.in_repair = False


def share_port(rebuilding: Rebuilding) -> None:
    """Give SO_REUSEADDR its value back, which repair mode has cleared; matters only to who binds the port later."""
    value = options.reuseaddr(rebuilding.early.head.options)
    if value is not None:
        rebuilding.socket.setsockopt(*options.REUSEADDR, value)


def send_unsent(rebuilding: Rebuilding) -> None:
    """Write the data that the source never sent, repair mode being off; what an earlier call wrote is not repeated.

    The process must not have run since the rebuild, or an earlier call must have finished.
    """
    image = rebuilding.image
    if image is None or not image.unsent:
        return
    with _translated(rebuilding.where):
        acknowledged = tcp_info.read(rebuilding.socket).bytes_acked
        written = acknowledged + repair.count(rebuilding.socket, repair.SIOCOUTQ) - len(image.unacknowledged)
        _write(rebuilding.socket, image.unsent[written:], image.head.buffers)


def _connect(rebuilding: Rebuilding, snd_una: int) -> None:
    connection, early = rebuilding.socket, rebuilding.early
    repair.set_seq(connection, repair.SEND_QUEUE, snd_una)
    repair.set_seq(connection, repair.RECEIVE_QUEUE, early.read_seq)
    repair.connect(connection, early.head.four_tuple, early.head.negotiated.mss)
    repair.set_negotiated(connection, early.head.negotiated)
    _fill(connection, repair.RECEIVE_QUEUE, early.receive_queue, early.head.buffers)
    repair.select(connection, repair.NO_QUEUE)
    rebuilding.connected = True


def _receive_fin(rebuilding: Rebuilding, image: snapshot.ConnectionSnapshot, inject: Inject) -> None:
    """Let the kernel receive the peer's FIN again, which leads to CLOSE_WAIT; the lock passes loopback traffic.

    Without timestamps: any would become the newest that the kernel has seen from this peer.
    """
    where = rebuilding.where
    mirrored = four_tuple.FourTuple(where.peer, where.peer_port, where.local, where.local_port)
    flow = segments.Flow(mirrored, timestamps=False)
    fin = sequence.add(image.rcv_nxt, -1)
    inject(flow, flow.segment(fin, image.snd_una, 0, 0, segments.ACK | segments.FIN))
    deadline = time.monotonic() + _FIN_SECONDS
    while tcp_info.read(rebuilding.socket).state != state.State.CLOSE_WAIT:
        if time.monotonic() > deadline:
            raise OSError(errno.ETIMEDOUT, "the peer's FIN was not taken")
        time.sleep(0.0001)


def _set_buffers(connection: socket.socket, buffers: snapshot.Buffers) -> None:
    """Set both sizes and then which of them are fixed: a forced size would switch the kernel's tuning off."""
    connection.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, (buffers.sndbuf + 1) // 2)
    connection.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, (buffers.rcvbuf + 1) // 2)
    connection.setsockopt(socket.SOL_SOCKET, _BUF_LOCK, buffers.locked)


def _fill(connection: socket.socket, queue: int, data: bytes, buffers: snapshot.Buffers) -> None:
    if data:
        repair.select(connection, queue)
        _write(connection, data, buffers)
        repair.select(connection, repair.NO_QUEUE)


def _write(connection: socket.socket, data: bytes, buffers: snapshot.Buffers) -> None:
    """Write all of `data` into the selected queue; a buffer that is too small for its own content grows meanwhile."""
    view, sndbuf, rcvbuf = memoryview(data), buffers.sndbuf, buffers.rcvbuf
    while view:
        try:
            view = view[connection.send(view[:_CHUNK], socket.MSG_DONTWAIT) :]
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS} or sndbuf > 2 * snapshot.QUEUE_LIMIT:
                raise
            sndbuf, rcvbuf = sndbuf * 2, rcvbuf * 2
            _set_buffers(connection, buffers._replace(sndbuf=sndbuf, rcvbuf=rcvbuf))
    if sndbuf != buffers.sndbuf:
        _set_buffers(connection, buffers)
