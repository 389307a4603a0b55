"""The target's half of the cut: from the restored, stopped processes to traffic that flows again.

Order of calls:

    lock                 before the restored sockets can be reached; the pod's interface may still be held
    find                 the sockets that wait to be rebuilt: closed ones of the restored processes
    rebuild, verify      batch by batch, in place; from here the connections stand in repair mode behind the lock
    resume               after Commit: addresses, neighbours, repair mode off, unlock, unsent data, window updates. The
                         caller continues the tasks when it returns
    wake                 repeats window updates until the peers answer, and reports
    discard              instead of resume: everything is dropped without a word on the wire

A new engine after a crash calls `lock`, `find`, `recover` with all batches, and goes on with `resume`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from podferry import errors
from podferry.tcp import snapshot, state
from podferry_agent.connections import audit, find, options, repair, tcp_info, wakeup
from podferry_agent.net import conntrack, gate, namespace, neighbours, segments, sock_diag


class _Rebuilt(NamedTuple):
    connection: socket.socket
    image: snapshot.ConnectionSnapshot


class Target:
    """One pod's connections on the node that they come to."""

    def __init__(self, where: namespace.NetworkNamespace, name: str, host: namespace.NetworkNamespace) -> None:
        """Stand in the pod's namespace; `name` names the kernel objects (ids.object_name), `host` has the bridge."""
        self._where = where
        self._gate = gate.Gate(where, name)
        self._sender: segments.Sender = where.run(segments.Sender)
        self._links = neighbours.Neighbours(where, host)
        self._conntrack: conntrack.Conntrack = host.run(conntrack.Conntrack)
        self._decoder = snapshot.Decoder()
        self._waiting: dict[snapshot.Key, socket.socket] = {}
        self._listening: set[int] = set()
        self._taken_ports: set[int] = set()
        self._rebuilt: list[_Rebuilt] = []
        self._announcements: list[wakeup.Announcement] = []
        self._resumed_at = 0.0

    @property
    def count(self) -> int:
        """Connections rebuilt so far."""
        return len(self._rebuilt)

    @property
    def digest(self) -> bytes:
        """SHA-256 over the batches so far: the source's `digest` if nothing is missing."""
        return self._decoder.digest

    def lock(self) -> None:
        """Let no TCP in or out of the pod."""
        self._gate.set(gate.Stage.LOCK)

    def find(self, containers: Mapping[str, Sequence[int]]) -> int:
        """Take duplicates of the restored processes' sockets (name → process ids); return how many could be rebuilt."""
        self._release()
        cookie = self._where.run(_cookie)
        with find.Duplicator() as duplicator:
            for holder in find.holders(containers):
                duplicate = duplicator.duplicate(holder)
                if duplicate is None:
                    continue
                if find.is_tcp(duplicate) and find.namespace_cookie(duplicate) == cookie:
                    self._waiting[holder.key] = duplicate
                else:
                    duplicate.close()
        listed = self._where.run(sock_diag.tcp_sockets)
        self._listening = {one.four_tuple.local_port for one in listed if one.state is state.State.LISTEN}
        self._taken_ports = {one.four_tuple.local_port for one in listed if one.four_tuple.local_port}
        return sum(tcp_info.read(one).state == state.State.CLOSE for one in self._waiting.values())

    def rebuild(self, batch: bytes) -> None:
        """Rebuild the connections that this batch completes.

        Raises:
            InvalidInput: the batch is malformed, or names a socket, an address or an option that it may not.
            Permanent: the kernel refused a step.
        """
        for image in self._decoder.feed(batch):
            connection = self._checked(image)
            repair.rebuild(connection, image)
            self._rebuilt.append(_Rebuilt(connection, image))

    def verify(self) -> None:
        """Check that the stream is whole and every connection stands.

        Raises:
            InvalidInput: the stream ends inside a record.
            Permanent: a connection was lost (reason RebuildFailed).
        """
        self._decoder.finish()
        for connection, image in self._rebuilt:
            if tcp_info.read(connection).state != image.head.state:
                raise errors.Permanent(f"{image.head.four_tuple} did not survive its rebuild", reason="RebuildFailed")

    def recover(self, batches: Iterable[bytes]) -> None:
        """Take up what an engine that died had rebuilt from `batches`; what is missing is rebuilt now.

        Raises:
            InvalidInput, Permanent: as `rebuild`.
        """
        for batch in batches:
            for image in self._decoder.feed(batch):
                connection = self._socket(image)
                if not repair.complete(connection, image):
                    repair.rebuild(self._checked(image), image)
                self._rebuilt.append(_Rebuilt(connection, image))
        self._decoder.finish()

    def resume(self) -> None:
        """Let the traffic come here and the connections go on. Idempotent; the tasks may run when it returns."""
        self._links.attach()
        self._links.announce()
        fresh = not self._announcements
        for connection, image in self._rebuilt:
            if repair.in_repair(connection):
                repair.release(connection, options.reuseaddr(image.head.options))
        self._gate.remove()
        for connection, image in self._rebuilt:
            repair.send_unsent(connection, image)
        if fresh:
            self._announcements = [_announcement(one) for one in self._rebuilt]
        self._resumed_at = time.monotonic()
        wakeup.announce(self._sender, self._announcements)
        self._conntrack.forget(image.head.four_tuple for _, image in self._rebuilt)

    def wake(self, deadline: float) -> list[audit.ConnectionAudit]:
        """Repeat window updates until the peers answer or `deadline` (monotonic); return each connection's fate."""
        self._links.announce()
        wakeup.insist(self._sender, self._announcements, self._resumed_at, deadline)
        for announcement in self._announcements:
            if tcp_info.read(announcement.connection).state == state.State.CLOSE:
                announcement.audit.fate = "closed: ended by its peer or its process after the resume"
        return [announcement.audit for announcement in self._announcements]

    def discard(self) -> None:
        """Drop everything; rebuilt connections stay in repair mode, so that killing their processes sends nothing."""
        self._gate.remove()
        self._release()

    def close(self) -> None:
        """Let go of duplicates and sockets; the connections and the gate stay as they are."""
        self._release()
        self._sender.close()
        self._links.close()
        self._conntrack.close()
        self._gate.close()

    def _release(self) -> None:
        for duplicate in self._waiting.values():
            duplicate.close()
        self._waiting.clear()
        self._rebuilt.clear()
        self._announcements.clear()

    def _socket(self, image: snapshot.ConnectionSnapshot) -> socket.socket:
        connection = self._waiting.get(image.head.key)
        if connection is None:
            raise errors.InvalidInput("connections", f"no restored process holds a TCP socket at {image.head.key}")
        return connection

    def _checked(self, image: snapshot.ConnectionSnapshot) -> socket.socket:
        """Return the socket to rebuild `image` in, having checked again what the source says."""
        connection, head = self._socket(image), image.head
        if head.state is not state.State.ESTABLISHED:
            raise errors.InvalidInput("connections", f"{head.state.name} cannot be rebuilt")
        if connection.family != head.four_tuple.family or tcp_info.read(connection).state != state.State.CLOSE:
            raise errors.InvalidInput("connections", f"the socket at {head.key} does not wait to be rebuilt")
        own = {address for interface in self._links.interfaces for address in interface.addresses}
        if head.four_tuple.wire.local not in own and not head.four_tuple.loopback:
            raise errors.InvalidInput("connections", f"{head.four_tuple}: the address is not this pod's")
        port = head.four_tuple.local_port
        if port in self._taken_ports and port not in self._listening:
            raise errors.InvalidInput("connections", f"port {port} is neither free nor a listener's")
        options.check(head.options, connection.family)
        return connection


def _announcement(rebuilt: _Rebuilt) -> wakeup.Announcement:
    connection, image = rebuilt
    negotiated = image.head.negotiated
    return wakeup.Announcement(
        connection,
        image.head.four_tuple,
        image.snd_nxt,
        image.rcv_nxt,
        wakeup.header_window(image.window, image.rcv_nxt, negotiated.rcv_wscale),
        negotiated.timestamps,
        0,
        audit.ConnectionAudit(
            image.head.four_tuple, image.head.state, len(image.receive_queue) + len(image.send_queue)
        ),
    )


def _cookie() -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        return find.namespace_cookie(own)
