"""What the kernel and /proc say about the TCP sockets of a pod, put together for the inventory."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator, Mapping, Sequence

from podferry.tcp import four_tuple, inventory, state
from podferry_agent.connections import find, repair, tcp_info
from podferry_agent.net import namespace, sock_diag

_NOWHERE = four_tuple.FourTuple(bytes(4), 0, bytes(4), 0)


def survey(
    where: namespace.NetworkNamespace, containers: Mapping[str, Sequence[int]]
) -> Iterator[tuple[inventory.Observed, socket.socket | None]]:
    """Yield every TCP socket of the namespace, with a duplicate of it if one of the processes holds it.

    A socket shared by several descriptors comes once, under the first. The caller closes the duplicates.
    """
    held: dict[int, find.Holder] = {}
    for one in find.holders(containers):
        held.setdefault(one.inode, one)
    with find.Duplicator() as duplicator:
        for listed in where.run(sock_diag.tcp_sockets):
            holder = held.pop(listed.inode, None)
            duplicate = duplicator.duplicate(holder) if holder else None
            yield _observed(listed, holder, duplicate), duplicate
        cookie = where.run(find.own_namespace_cookie)
        for other in held.values():  # what the list leaves out: closed sockets, and Multipath TCP
            duplicate = duplicator.duplicate(other)
            if duplicate is None:
                continue
            ours = find.is_tcp(duplicate) and find.namespace_cookie(duplicate) == cookie
            if ours or duplicate.proto == find.IPPROTO_MPTCP:
                yield _unlisted(other, duplicate), duplicate
            else:
                duplicate.close()


def _observed(
    listed: sock_diag.Listed, holder: find.Holder | None, duplicate: socket.socket | None
) -> inventory.Observed:
    listening = listed.state is state.State.LISTEN
    return inventory.Observed(
        state=listed.state,
        four_tuple=listed.four_tuple,
        key=holder.key if holder and duplicate else None,
        pid=holder.pid if holder else 0,
        process=holder.process if holder else "",
        backlog=listed.receive_queue if listening else 0,
        mptcp=duplicate is not None and duplicate.proto == find.IPPROTO_MPTCP,
        upper_protocol=repair.upper_protocol(duplicate) if duplicate is not None and not listening else "",
        urgent=duplicate is not None and not listening and _urgent(duplicate),
    )


def _unlisted(holder: find.Holder, duplicate: socket.socket) -> inventory.Observed:
    multipath = duplicate.proto == find.IPPROTO_MPTCP
    return inventory.Observed(
        state=state.State.ESTABLISHED if multipath else state.State(tcp_info.read(duplicate).state),
        four_tuple=_NOWHERE,
        key=holder.key,
        pid=holder.pid,
        process=holder.process,
        mptcp=multipath,
    )


def _urgent(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLPRI)
    return any(events & select.POLLPRI for _, events in poll.poll(0))
