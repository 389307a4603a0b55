"""The source's half of the cut: from the first held connection request to the last socket in repair mode.

Order of calls (each may be followed by `undo`, which takes everything back; all but the batches are idempotent):

    inspect                  any time, changes nothing
    hold, accept_queues_empty    while the processes still run
    collect                  once they are frozen: their connections go into repair mode, which the network does not see
    early_batches            what cannot change any more, and the queues as they stand; optional, saves time in the cut
    flush, drained           the peers see a zero window; wait until nothing is in flight
    lock, batches            nothing enters or leaves any more; the rest of every connection is read and encoded
    detach                   after Commit: the pod leaves its bridge. Its sockets stay in repair mode, so that killing
                             the processes sends neither FIN nor RST
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from podferry.tcp import inventory, snapshot, state
from podferry_agent.connections import audit, drain, find, options, repair, survey, taking, wakeup
from podferry_agent.net import conntrack, gate, namespace, neighbours, segments, sock_diag

REOPEN_SECONDS = 0.06
"""How long `undo` waits for answers to its window updates; the peers' own timers do the rest."""
_ACCEPT_POLL_SECONDS = 0.005


class Source:
    """One pod's connections on the node that they leave."""

    def __init__(self, where: namespace.NetworkNamespace, name: str, host: namespace.NetworkNamespace) -> None:
        """Stand in the pod's namespace; `name` names the kernel objects (ids.object_name), `host` has the bridge."""
        self._where, self._host = where, host
        self._gate = gate.Gate(where, name)
        self._sender: segments.Sender = where.run(segments.Sender)
        self._fresh: dict[int, options.Values] = where.run(_fresh_options)
        self._links = neighbours.Neighbours(where, host)
        self._detached = False
        self._taken: list[taking.Taken] = []
        self._drain = drain.Drain(self._sender, ())
        self._digest = hashlib.sha256()
        self.count = 0
        """Connections whose last part is in the batches so far."""
        self.unmovable: tuple[inventory.Unmovable, ...] = ()
        self._early_sent = False

    @property
    def digest(self) -> bytes:
        """SHA-256 over the batches so far."""
        return self._digest.digest()

    # --- while the processes run

    def inspect(self, containers: Mapping[str, Sequence[int]]) -> inventory.Inventory:
        """Say what would become of each TCP socket of the pod; `containers`: name → process ids on this node."""
        verdicts = []
        for observed, duplicate in survey.survey(self._where, containers):
            verdicts.append(inventory.classify(observed))
            if duplicate is not None:
                duplicate.close()
        return inventory.Inventory(tuple(verdicts))

    def hold(self) -> None:
        """Drop incoming connection requests from now on; the clients' kernels repeat them."""
        self._gate.set(gate.Stage.HOLD)

    def accept_queues_empty(self, deadline: float) -> bool:
        """Wait until the pod has accepted all that its kernel completed; False if not at `deadline` (time.monotonic).

        Handshakes under way get until then to be completed; whoever has not answered by then is not waited for.
        """
        while True:
            listed = self._where.run(sock_diag.tcp_sockets)
            empty = not any(one.state is state.State.LISTEN and one.receive_queue for one in listed)
            late = time.monotonic() >= deadline
            if late or (empty and not any(one.state is state.State.SYN_RECV for one in listed)):
                return empty
            time.sleep(_ACCEPT_POLL_SECONDS)

    # --- while they are frozen

    def collect(self, containers: Mapping[str, Sequence[int]]) -> int:
        """Take all movable connections into repair mode; return how many. Nothing changes for their peers.

        Afterwards `unmovable` says which sockets stay behind.
        """
        if self._taken:
            return len(self._taken)
        verdicts = []
        for observed, duplicate in survey.survey(self._where, containers):
            verdict = inventory.classify(observed)
            verdicts.append(verdict)
            if duplicate is None:
                continue
            taken = None
            if verdict.fate is inventory.Fate.MOVES and observed.key is not None:
                taken = taking.begin(duplicate, observed.key, observed.four_tuple, self._fresh[duplicate.family])
            if taken is None:
                duplicate.close()
            else:
                self._taken.append(taken)
        self.unmovable = inventory.Inventory(tuple(verdicts)).unmovable
        return len(self._taken)

    def early_batches(self) -> Iterator[bytes]:
        """Yield the first part of every connection, encoded, in batches of at most 1 MiB; the target may have it now.

        If nobody calls this, `batches` yields it first.
        """
        self._early_sent = True
        records = (snapshot.encode_early(taken.early()) for taken in self._taken)
        return self._counted(records, snapshot.BATCH_SIZE)

    def flush(self) -> None:
        """Close every peer's window: what leaves carries a zero window and no data, and each peer is told at once."""
        self._gate.set(gate.Stage.HOLD, gate.Stage.FLUSH)
        self._drain = drain.Drain(self._sender, self._taken)

    def drained(self, deadline: float) -> tuple[str, ...]:
        """Wait until nothing is in flight in either direction; return what is not still at `deadline` (monotonic)."""
        return self._drain.wait(deadline)

    def lock(self) -> None:
        """Let no TCP in or out."""
        self._gate.set(gate.Stage.LOCK)

    def batches(self) -> Iterator[bytes]:
        """Yield the rest of all connections, encoded; `count` and `digest` are complete when the iterator has ended.

        Raises:
            RolledBack: a connection cannot be read any more.
        """
        if not self._early_sent:
            yield from self.early_batches()
        yield from self._counted(self._late_records(), snapshot.CUT_BATCH_SIZE)

    def _late_records(self) -> Iterator[bytes]:
        for number, taken in enumerate(self._taken):
            late = taken.late(number)
            if late is not None:
                self.count += 1
                yield snapshot.encode_late(late)

    def _counted(self, records: Iterable[bytes], size: int) -> Iterator[bytes]:
        for batch in snapshot.batches(records, size):
            self._digest.update(batch)
            yield batch

    # --- the ways out

    def undo(self) -> list[audit.ConnectionAudit]:
        """Take everything back: repair mode off, gate gone, windows open, waiting data sent. Idempotent."""
        taken, self._taken = self._taken, []
        announcements = [one.announcement() for one in taken]
        for one in taken:
            repair.release(one.socket, one.reuseaddr)
        try:
            self._gate.remove()
            reopen(self._sender, announcements)
        finally:
            for one in taken:
                one.socket.close()
        return [announcement.audit for announcement in announcements]

    def detach(self) -> None:
        """Take the pod off its bridge, for good. The target waits for this: it is one netlink message."""
        self._links.detach()
        self._detached = True

    def close(self) -> None:
        """Let go of duplicates and sockets. Connections in repair mode stay in it, the gate stays as it is.

        If the pod was detached, the node's connection tracking forgets its flows.
        """
        if self._detached:
            tracking: conntrack.Conntrack = self._host.run(conntrack.Conntrack)
            for taken in self._taken:
                tracking.forget(taken.head.four_tuple)
            tracking.close()
        for taken in self._taken:
            taken.socket.close()
        self._taken.clear()
        self._links.close()
        self._sender.close()
        self._gate.close()


def recover(where: namespace.NetworkNamespace, name: str, pids: Sequence[int]) -> list[audit.ConnectionAudit]:
    """Undo what an engine that died left behind in the pod of `pids`: as `Source.undo`, from what is found.

    Only what it had touched is touched: sockets in repair mode, and the others too if the gate closed their windows.
    Both imply that the processes are still frozen.
    """
    table = gate.Gate(where, name)
    sender: segments.Sender = where.run(segments.Sender)
    fresh: dict[int, options.Values] = where.run(_fresh_options)
    closed = table.find() & {gate.Stage.FLUSH, gate.Stage.LOCK}
    found = [pair for pair in survey.survey(where, {"recovered": pids}) if pair[1] is not None]
    listeners = {
        observed.four_tuple.local_port: duplicate.getsockopt(*options.REUSEADDR, 4)
        for observed, duplicate in found
        if duplicate is not None and observed.state is state.State.LISTEN
    }
    announcements = []
    for observed, duplicate in found:
        if duplicate is None or observed.key is None or not find.is_tcp(duplicate):
            continue
        if repair.is_on(duplicate):
            # Repair mode hides the SO_REUSEADDR that was; an accepted connection had its listener's.
            reuseaddr = listeners.get(observed.four_tuple.local_port, bytes(4))
        elif closed and observed.state in inventory.MOVABLE_STATES:
            reuseaddr = duplicate.getsockopt(*options.REUSEADDR, 4)
        else:
            continue
        taken = taking.begin(duplicate, observed.key, observed.four_tuple, fresh[duplicate.family])
        if taken is not None:
            announcements.append(taken.announcement())
        repair.release(duplicate, reuseaddr)
    table.remove()
    table.close()
    reopen(sender, announcements)
    sender.close()
    for _, duplicate in found:
        if duplicate is not None:
            duplicate.close()
    return [announcement.audit for announcement in announcements]


def reopen(sender: segments.Sender, announcements: Sequence[wakeup.Announcement]) -> None:
    """Announce windows that are open again and let the kernel send what the gate held back."""
    first = time.monotonic()
    wakeup.announce(sender, announcements)
    for announcement in announcements:
        repair.push(announcement.connection)
    wakeup.insist(sender, announcements, first, first + REOPEN_SECONDS)


def _fresh_options() -> dict[int, options.Values]:
    values: dict[int, options.Values] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as untouched:
            values[family] = options.read(untouched)
    return values
