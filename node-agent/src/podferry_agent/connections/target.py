"""The target's half of the cut: from the restored, stopped processes to traffic that flows again.

Order of calls:

    lock                 before the restored sockets can be reached; the pod's interface may still be held
    find                 the sockets that wait to be rebuilt: closed ones of the restored processes
    rebuild              batch by batch, in place: what comes before the source's lock is prepared, what comes after
                         completes it
    verify               from here every connection stands in repair mode behind the lock
    resume               after Commit: neighbours, repair mode off, unlock, unsent data, window updates. The caller
                         continues the tasks when it returns
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
from podferry.tcp import inventory, snapshot, state
from podferry_agent.connections import audit, find, options, rebuilding, repair, tcp_info, wakeup
from podferry_agent.net import conntrack, gate, namespace, neighbours, segments, sock_diag


class _Found(NamedTuple):
    """A TCP socket of a restored process."""

    holder: find.Holder
    connection: socket.socket
    """A duplicate of it."""


class Target:
    """One pod's connections on the node that they come to."""

    def __init__(self, where: namespace.NetworkNamespace, name: str, host: namespace.NetworkNamespace) -> None:
        """Stand in the pod's namespace; `name` names the kernel objects (ids.object_name), `host` has the bridge."""
        self._where = where
        self._gate = gate.Gate(where, name)
        self._sender: segments.Sender = where.run(segments.Sender)
        self._links = neighbours.Neighbours(where, host)
        self._conntrack: conntrack.Conntrack = host.run(conntrack.Conntrack)
        self._own = {address for interface in self._links.interfaces for address in interface.addresses}
        self._decoder = snapshot.Decoder()
        self._found: dict[snapshot.Key, _Found] = {}
        self._listening: set[int] = set()
        self._taken_ports: set[int] = set()
        self._connections: list[rebuilding.Rebuilding] = []
        self._resumed_at = 0.0

    @property
    def count(self) -> int:
        """Connections complete so far."""
        return len(self._standing)

    @property
    def digest(self) -> bytes:
        """SHA-256 over the batches so far: the source's `digest` if nothing is missing."""
        return self._decoder.digest

    @property
    def _standing(self) -> list[rebuilding.Rebuilding]:
        return [one for one in self._connections if one.image is not None]

    def lock(self) -> None:
        """Let no TCP in or out of the pod."""
        self._gate.set(gate.Stage.LOCK)

    def find(self, containers: Mapping[str, Sequence[int]]) -> int:
        """Take duplicates of the restored processes' sockets (name → process ids); return how many could be rebuilt."""
        self._let_go()
        cookie = self._where.run(find.own_namespace_cookie)
        with find.Duplicator() as duplicator:
            for holder in find.holders(containers):
                duplicate = duplicator.duplicate(holder)
                if duplicate is None:
                    continue
                if find.is_tcp(duplicate) and find.namespace_cookie(duplicate) == cookie:
                    self._found[holder.key] = _Found(holder, duplicate)
                else:
                    duplicate.close()
        listed = self._where.run(sock_diag.tcp_sockets)
        self._listening = {one.four_tuple.local_port for one in listed if one.state is state.State.LISTEN}
        self._taken_ports = {one.four_tuple.local_port for one in listed if one.four_tuple.local_port}
        return sum(tcp_info.read(one.connection).state == state.State.CLOSE for one in self._found.values())

    def rebuild(self, batch: bytes) -> None:
        """Prepare or complete the connections that this batch is about.

        Raises:
            InvalidInput: the batch is malformed, or names a socket, an address or an option that it may not.
            Permanent: the kernel refused a step.
        """
        for record in self._decoder.feed(batch):
            if isinstance(record, snapshot.Early):
                found = self._found.get(record.head.key)
                one = rebuilding.adopt(found.connection if found else None, record)
                self._check(one)
                rebuilding.prepare(one)
                self._conntrack.forget(one.where)
                self._connections.append(one)
            else:
                rebuilding.finish(self._begun(record), record, self._sender.send)

    def verify(self) -> None:
        """Check that the stream is whole, and give up connections that ended on the source before the cut.

        Raises:
            InvalidInput: the stream ends inside a record.
        """
        self._decoder.finish()
        for one in self._connections:
            if one.image is None:
                rebuilding.abandon(one)

    def recover(self, batches: Iterable[bytes]) -> None:
        """Take up what an engine that died had rebuilt from `batches`.

        What it had not begun is rebuilt now. If it died in the middle of `resume`, or after it, some connections live
        already and some may have ended; they are left alone.

        Raises:
            InvalidInput: as `rebuild`.
            Permanent: a connection is half rebuilt (reason RebuildIncomplete), or the kernel refused a step.
        """
        for batch in batches:
            for record in self._decoder.feed(batch):
                if isinstance(record, snapshot.Early):
                    found = self._found.get(record.head.key)
                    self._connections.append(rebuilding.adopt(found.connection if found else None, record))
                else:
                    self._recover(self._begun(record), record)
        self._decoder.finish()

    def _recover(self, one: rebuilding.Rebuilding, late: snapshot.Late) -> None:
        found = self._found.get(one.early.head.key)
        if found is None or rebuilding.take_up(one, late):
            return
        if repair.is_on(one.socket):
            raise errors.Permanent(f"{one.where} is half rebuilt", reason="RebuildIncomplete")
        if find.stopped(found.holder.pid):
            self._check(one)
            rebuilding.prepare(one)
            rebuilding.finish(one, late, self._sender.send)

    def resume(self) -> None:
        """Let the traffic come here and the connections go on. Idempotent; the tasks may run when it returns."""
        standing = self._standing if self._found else []
        for one in standing:
            one.announce()
        self._links.attach()
        self._links.announce()
        for one in standing:
            rebuilding.release(one)
        self._gate.set()
        self._resumed_at = self._resumed_at or time.monotonic()
        for one in standing:
            if one.announcement is not None:
                one.announcement.send(self._sender)
        for one in standing:
            rebuilding.send_unsent(one)
        for one in standing:
            rebuilding.share_port(one)

    def wake(self, deadline: float) -> list[audit.ConnectionAudit]:
        """Repeat window updates until the peers answer or `deadline` (monotonic); return each connection's fate.

        No socket is kept open meanwhile, so what a process closes is closed.
        """
        self._gate.remove()
        self._links.announce()
        announcements = [one.announcement for one in self._connections if one.announcement is not None]
        for one in self._standing:
            found = self._found.get(one.early.head.key)
            if one.announcement is not None and found is not None:
                one.announcement.let_go(found.holder)
        self._let_go()
        wakeup.insist(self._sender, announcements, self._resumed_at, deadline)
        return [one.fate() for one in self._connections]

    def discard(self) -> None:
        """Drop everything; rebuilt connections stay in repair mode, so that killing their processes sends nothing."""
        self._gate.remove()
        self._let_go()
        self._connections.clear()

    def close(self) -> None:
        """Let go of duplicates and sockets; the connections and the gate stay as they are."""
        self._let_go()
        self._sender.close()
        self._links.close()
        self._conntrack.close()
        self._gate.close()

    def _let_go(self) -> None:
        for found in self._found.values():
            found.connection.close()
        self._found.clear()

    def _begun(self, late: snapshot.Late) -> rebuilding.Rebuilding:
        if late.number >= len(self._connections) or self._connections[late.number].image is not None:
            raise errors.InvalidInput("connections", f"connection {late.number} was not begun, or is complete")
        if late.state not in inventory.MOVABLE_STATES:
            raise errors.InvalidInput("connections", f"{late.state.name} cannot be rebuilt")
        return self._connections[late.number]

    def _check(self, one: rebuilding.Rebuilding) -> None:
        """Check again what the source says about a connection before anything is done to its socket."""
        head, where = one.early.head, one.where
        if head.key not in self._found:
            raise errors.InvalidInput("connections", f"no restored process holds a TCP socket at {head.key}")
        if one.socket.family != where.family or tcp_info.read(one.socket).state != state.State.CLOSE:
            raise errors.InvalidInput("connections", f"the socket at {head.key} does not wait to be rebuilt")
        if where.wire.local not in self._own and not where.loopback:
            raise errors.InvalidInput("connections", f"{where}: the address is not this pod's")
        if where.local_port in self._taken_ports and where.local_port not in self._listening:
            raise errors.InvalidInput("connections", f"port {where.local_port} is neither free nor a listener's")
        options.check(head.options, where.family)
        if len(self._connections) >= snapshot.CONNECTIONS_LIMIT:
            raise errors.InvalidInput("connections", f"more than {snapshot.CONNECTIONS_LIMIT}")
