"""One connection taken from a frozen process, in three looks.

`begin` switches repair mode on and reads what no longer changes. `Taken.early` reads both queues while the network
still runs. `Taken.late` reads behind the lock what may have moved since, in as few system calls as there can be: the
process neither reads nor writes, so TCP_INFO's counters give every sequence number.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import NamedTuple

from podferry import errors
from podferry.tcp import four_tuple, inventory, sequence, snapshot, state
from podferry_agent.connections import audit, options, repair, tcp_info, wakeup
from podferry_agent.net import segments

_BUF_LOCK = 72


@dataclass(slots=True)
class Taken:
    """A connection in repair mode."""

    socket: socket.socket
    head: snapshot.Head
    flow: segments.Flow
    reuseaddr: bytes
    write_seq: int
    """End of the send queue."""
    read_seq: int
    """First byte that the process has not read."""
    acked_base: int
    """snd_una - tcpi_bytes_acked."""
    received_base: int
    """rcv_nxt - tcpi_bytes_received."""
    read_early: int = 0
    """Bytes of the receive queue that went with the Early."""

    def snd_una(self, info: tcp_info.TcpInfo) -> int:
        """The oldest unacknowledged sequence number."""
        return sequence.add(self.acked_base, info.bytes_acked)

    def snd_nxt(self, info: tcp_info.TcpInfo) -> int:
        """The next sequence number to send."""
        return sequence.add(self.write_seq, -info.notsent)

    def rcv_nxt(self, info: tcp_info.TcpInfo) -> int:
        """The next sequence number expected."""
        return sequence.add(self.received_base, info.bytes_received)

    def clock(self) -> int:
        """The timestamp clock; 0 without timestamps."""
        return repair.get_clock(self.socket) if self.head.negotiated.timestamps else 0

    def unread(self, info: tcp_info.TcpInfo) -> int:
        """Bytes in the receive queue."""
        return sequence.distance(self.read_seq, snapshot.data_end(self.rcv_nxt(info), state.State(info.state)))

    def early(self) -> snapshot.Early:
        """Read both queues as they stand."""
        while True:
            info = tcp_info.read(self.socket)
            received = repair.peek(self.socket, repair.RECEIVE_QUEUE, self.unread(info))
            snd_una = self.snd_una(info)
            try:
                send = repair.peek(self.socket, repair.SEND_QUEUE, sequence.distance(snd_una, self.write_seq))
            except errors.RolledBack:
                if tcp_info.read(self.socket).bytes_acked == info.bytes_acked:
                    raise
                continue  # acknowledged while we read
            if tcp_info.read(self.socket).bytes_acked == info.bytes_acked:
                break
        self.read_early = len(received)
        return snapshot.Early(self.head, snd_una, self.write_seq, self.read_seq, received, send)

    def late(self, number: int) -> snapshot.Late | None:
        """Read what has moved since `early`, behind the lock; None when the connection has ended.

        Raises:
            RolledBack: it went to a state that cannot be moved (reason ConnectionChanged).
        """
        info = tcp_info.read(self.socket)
        if info.state not in inventory.MOVABLE_STATES:
            if info.state == state.State.CLOSE:
                return None
            name = state.State(info.state).name
            raise errors.RolledBack(f"{self.head.four_tuple} went to {name}", reason="ConnectionChanged")
        unread = self.unread(info)
        arrived = b""
        if unread > self.read_early:
            arrived = repair.peek(self.socket, repair.RECEIVE_QUEUE, unread)[self.read_early :]
        return snapshot.Late(
            number,
            state.State(info.state),
            self.snd_una(info),
            self.snd_nxt(info),
            self.rcv_nxt(info),
            repair.get_window(self.socket),
            # Two ticks on: past the one that the reading may lack, so that the clock never goes back.
            sequence.add(self.clock(), 2) if self.head.negotiated.timestamps else 0,
            arrived,
        )

    def announcement(self) -> wakeup.Announcement:
        """Return what announces its real window."""
        info, window = tcp_info.read(self.socket), repair.get_window(self.socket)
        rcv_nxt = self.rcv_nxt(info)
        return wakeup.Announcement(
            self.socket,
            self.flow,
            self.snd_nxt(info),
            rcv_nxt,
            wakeup.header_window(window, rcv_nxt, self.head.negotiated.rcv_wscale),
            self.head.negotiated.timestamps,
            info.segs_in,
            audit.ConnectionAudit(self.head.four_tuple, state.State(info.state)),
        )


def begin(
    connection: socket.socket, key: snapshot.Key, where: four_tuple.FourTuple, fresh: options.Values
) -> Taken | None:
    """Switch repair mode on and read what is constant; None when the connection has left its movable state.

    `fresh` are the options of a socket that nobody touched. The process must be frozen.

    Raises:
        Permanent: the kernel refused; the connection is as before.
    """
    reuseaddr = connection.getsockopt(*options.REUSEADDR, 4)
    try:
        chosen = options.differing(connection, fresh)
        buffers = snapshot.Buffers(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
            connection.getsockopt(socket.SOL_SOCKET, _BUF_LOCK),
        )
        repair.switch_on(connection)
        look = _look(connection)
        if look is None:
            repair.release(connection, reuseaddr)
            return None
        repair.select(connection, repair.NO_QUEUE)
        negotiated = _negotiated(connection, look.info)
    except OSError as error:
        repair.release(connection, reuseaddr)
        raise errors.Permanent(f"cannot take {where}: {error}", reason="RepairRefused") from error
    info = look.info
    return Taken(
        socket=connection,
        head=snapshot.Head(key, where, negotiated, buffers, chosen),
        flow=segments.Flow(where, timestamps=negotiated.timestamps),
        reuseaddr=reuseaddr,
        write_seq=look.write_seq,
        read_seq=sequence.add(snapshot.data_end(look.rcv_nxt, state.State(info.state)), -look.unread),
        acked_base=sequence.add(look.write_seq, -look.outstanding - info.bytes_acked),
        received_base=sequence.add(look.rcv_nxt, -info.bytes_received),
    )


class _Look(NamedTuple):
    """Sequence numbers and TCP_INFO's counters of the same moment."""

    info: tcp_info.TcpInfo
    rcv_nxt: int
    write_seq: int
    unread: int
    outstanding: int


def _look(connection: socket.socket) -> _Look | None:
    """Read both while nothing changes between; None when the connection is in no movable state."""
    while True:
        before = tcp_info.read(connection)
        if before.state not in inventory.MOVABLE_STATES:
            return None
        rcv_nxt = repair.get_seq(connection, repair.RECEIVE_QUEUE)
        write_seq = repair.get_seq(connection, repair.SEND_QUEUE)
        unread = repair.count(connection, repair.SIOCINQ)
        outstanding = repair.count(connection, repair.SIOCOUTQ)
        info = tcp_info.read(connection)
        if (info.state, info.counters) == (before.state, before.counters):
            return _Look(info, rcv_nxt, write_seq, unread, outstanding)


def _negotiated(connection: socket.socket, info: tcp_info.TcpInfo) -> snapshot.Negotiated:
    return snapshot.Negotiated(
        mss=repair.get_mss(connection),
        snd_wscale=info.wscale & 15,
        rcv_wscale=info.wscale >> 4,
        window_scaling=bool(info.options & tcp_info.OPTION_WINDOW_SCALE),
        sack=bool(info.options & tcp_info.OPTION_SACK),
        timestamps=bool(info.options & tcp_info.OPTION_TIMESTAMPS),
        microseconds=bool(info.options & tcp_info.OPTION_MICROSECONDS),
    )
