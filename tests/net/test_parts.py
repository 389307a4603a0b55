"""The parts of the net layer and of the engine, each against this machine's kernel."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support import move, netns

from podferry import errors
from podferry.tcp import four_tuple, snapshot, state
from podferry_agent.connections import backend, find, options, repair, tcp_info
from podferry_agent.net import conntrack, gate, namespace, neighbours, nft, segments, sock_diag

pytestmark = pytest.mark.net


@pytest.fixture
def network() -> Iterator[netns.Network]:
    with netns.Network() as made:
        yield made


@pytest.fixture
def pod(network: netns.Network) -> Iterator[namespace.NetworkNamespace]:
    with namespace.NetworkNamespace(network.path(network.source)) as where:
        yield where


@pytest.fixture
def client(network: netns.Network) -> Iterator[namespace.NetworkNamespace]:
    with namespace.NetworkNamespace(network.path(network.client)) as where:
        yield where


def connected(
    pod: namespace.NetworkNamespace, client: namespace.NetworkNamespace, address: str = netns.POD
) -> tuple[socket.socket, socket.socket, socket.socket]:
    """Return the pod's listener, the accepted end, and the client's end."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = pod.run(lambda: socket.create_server((address, 8000), family=family))
    outer = client.run(lambda: socket.create_connection((address, 8000), timeout=5))
    inner, _ = listener.accept()
    inner.settimeout(5)
    return listener, inner, outer


# --- namespaces


def test_a_namespace_is_where_its_calls_run(pod: namespace.NetworkNamespace) -> None:
    assert "eth0" in {name for _, name in pod.run(socket.if_nameindex)}
    assert pod.run(threading.get_ident) == pod.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        pod.run(lambda: 1 // 0)


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/proc/self/ns/mnt", "/proc/self/status"])
def test_what_is_no_namespace_is_refused(path: str) -> None:
    with pytest.raises(errors.Permanent):
        namespace.NetworkNamespace(path)


# --- the gate


def test_each_stage_lets_through_what_it_should(
    pod: namespace.NetworkNamespace, client: namespace.NetworkNamespace
) -> None:
    table = gate.Gate(pod, move.NAME)
    listener, inner, outer = connected(pod, client)
    with listener, inner, outer:
        table.set(gate.Stage.HOLD)
        with pytest.raises(TimeoutError):
            client.run(lambda: socket.create_connection((netns.POD, 8000), timeout=0.3))
        outer.sendall(b"held are only new connections")
        assert inner.recv(100)
        inner.sendall(b"in both directions")
        assert outer.recv(100)
        table.set(gate.Stage.HOLD, gate.Stage.FLUSH)
        inner.sendall(b"this waits")
        outer.sendall(b"this comes")
        assert inner.recv(100) == b"this comes"
        outer.settimeout(0.3)
        with pytest.raises(TimeoutError):
            outer.recv(100)
        assert tcp_info.read(inner).notsent == len(b"this waits"), "refused data was never sent"
        table.set()
        repair.push(inner)
        outer.settimeout(5)
        assert outer.recv(100) == b"this waits"
        table.set(gate.Stage.LOCK)
        outer.sendall(b"locked out")
        inner.settimeout(0.3)
        with pytest.raises(TimeoutError):
            inner.recv(100)
        assert table.remove()
        inner.settimeout(5)
        assert inner.recv(100) == b"locked out"
        assert not table.remove()
    table.close()


def test_the_gate_does_not_concern_loopback(pod: namespace.NetworkNamespace) -> None:
    table = gate.Gate(pod, move.NAME)
    table.set(*gate.Stage)
    listener = pod.run(lambda: socket.create_server(("127.0.0.1", 0)))
    address = listener.getsockname()
    with (
        listener,
        pod.run(lambda: socket.create_connection(address, timeout=5)) as outer,
        listener.accept()[0] as inner,
    ):
        outer.sendall(b"as ever")
        assert inner.recv(100) == b"as ever"
    table.remove()
    table.close()


def test_another_life_finds_the_gate_by_its_name(pod: namespace.NetworkNamespace) -> None:
    first, second = gate.Gate(pod, move.NAME), gate.Gate(pod, move.NAME)
    assert second.find() == frozenset()
    first.set(gate.Stage.HOLD, gate.Stage.FLUSH)
    first.close()
    assert second.find() == {gate.Stage.HOLD, gate.Stage.FLUSH}
    second.set(gate.Stage.LOCK)
    assert second.find() == second.stages == {gate.Stage.LOCK}
    assert second.remove()
    second.close()


def test_nftables_errors_are_ours(pod: namespace.NetworkNamespace) -> None:
    tables = pod.run(nft.Nft)
    with pytest.raises(errors.Permanent) as caught:
        pod.run(lambda: tables.run("add rule inet nowhere at all"))
    assert caught.value.reason == "NftablesRefused"
    pod.run(tables.close)


# --- segments


@pytest.mark.parametrize("address", [netns.POD, netns.POD6])
@pytest.mark.parametrize("timestamps", [True, False])
def test_a_segment_of_ours_is_taken_by_the_peer(
    network: netns.Network,
    pod: namespace.NetworkNamespace,
    client: namespace.NetworkNamespace,
    address: str,
    *,
    timestamps: bool,
) -> None:
    network.set(network.source, "net/ipv4/tcp_timestamps", int(timestamps))
    listener, inner, outer = connected(pod, client, address)
    with listener, inner, outer:
        inner.sendall(b"something")
        assert outer.recv(100) == b"something"
        family, (local, local_port), (far, far_port) = inner.family, inner.getsockname()[:2], inner.getpeername()[:2]
        connection = four_tuple.FourTuple(
            socket.inet_pton(family, local), local_port, socket.inet_pton(family, far), far_port
        )
        flow = segments.Flow(connection, timestamps=timestamps)
        sender = pod.run(segments.Sender)
        repair.switch_on(inner)
        rcv_nxt, snd_nxt = (repair.get_seq(inner, queue) for queue in (repair.RECEIVE_QUEUE, repair.SEND_QUEUE))
        repair.select(inner, repair.NO_QUEUE)
        repair.switch_off(inner)
        before, heard = tcp_info.read(outer), tcp_info.read(inner)
        clock = repair.get_clock(inner) if timestamps else 0
        sender.send(flow, flow.segment(snd_nxt, rcv_nxt, 0, clock))
        move.wait_for("segment", lambda: tcp_info.read(outer).segs_in == before.segs_in + 1)
        outer.setblocking(False)
        outer.send(b"the window is closed")
        assert tcp_info.read(outer).notsent == len(b"the window is closed")
        sender.send(flow, flow.segment(snd_nxt - 1, rcv_nxt, 0, clock))
        move.wait_for("answer to the probe", lambda: tcp_info.read(inner).segs_in > heard.segs_in)
        sender.send(flow, flow.segment(snd_nxt, rcv_nxt, 1000, clock))
        assert inner.recv(100) == b"the window is closed"
        sender.close()


# --- lists


@pytest.mark.parametrize("address", [netns.POD, netns.POD6])
def test_sock_diag_lists_what_there_is(
    pod: namespace.NetworkNamespace, client: namespace.NetworkNamespace, address: str
) -> None:
    listener, inner, outer = connected(pod, client, address)
    with listener, inner, outer, client.run(lambda: socket.create_connection((address, 8000), timeout=5)):
        outer.sendall(b"12345")
        move.wait_for("data", lambda: repair.count(inner, repair.SIOCINQ) == 5)
        listed = {one.inode: one for one in pod.run(sock_diag.tcp_sockets)}
        inode = int(Path(f"/proc/self/fd/{inner.fileno()}").readlink().name.strip("socket:[]"))
        found = listed[inode]
        assert (found.state.name, found.receive_queue) == ("ESTABLISHED", 5)
        assert found.four_tuple.peer_port == outer.getsockname()[1]
        assert sorted(one.state.name for one in listed.values()) == ["ESTABLISHED", "ESTABLISHED", "LISTEN"]
        assert [one.receive_queue for one in listed.values() if one.state.name == "LISTEN"] == [1]
        assert [one.inode for one in listed.values() if one.receive_queue == 0] == [0], "not accepted: nobody's"


def test_a_visitor_notices_that_the_descriptor_is_another_socket() -> None:
    with find.Duplicator() as duplicator:
        own, other = socket.socket(), socket.socket()
        holder = find.Holder(snapshot.Key("app", 1, own.fileno()), os.getpid(), "test", 0)
        visitor = find.Visitor(holder, own)
        seen = visitor.visit(duplicator)
        assert seen is not None
        seen.close()
        os.dup2(other.fileno(), own.fileno())
        assert visitor.visit(duplicator) is None
        own.close()
        assert visitor.visit(duplicator) is None
        other.close()


# --- links and conntrack


def test_attach_detach_announce(network: netns.Network, client: namespace.NetworkNamespace) -> None:
    def reachable(where: namespace.NetworkNamespace) -> bool:
        try:
            where.run(lambda: socket.create_connection((netns.POD, 9), timeout=0.5))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        raise AssertionError("nobody listens there")

    with (
        namespace.NetworkNamespace(network.path(network.switch)) as host,
        namespace.NetworkNamespace(network.path(network.source)) as source,
        namespace.NetworkNamespace(network.path(network.target)) as target,
    ):
        before, after = neighbours.Neighbours(source, host), neighbours.Neighbours(target, host)
        assert before.interfaces[0].addresses == (socket.inet_aton(netns.POD), socket.inet_pton(10, netns.POD6))
        before.attach()
        assert reachable(client)
        for _ in range(2):
            before.detach()
        assert not reachable(client)
        for _ in range(2):
            after.attach()
        after.announce()
        listed = client.run(lambda: subprocess.run(["ip", "neigh"], capture_output=True, text=True, check=True).stdout)
        assert after.interfaces[0].mac.hex(":") in listed
        assert reachable(client)
        before.close()
        after.close()


def test_a_held_interface_needs_its_bridge(network: netns.Network) -> None:
    subprocess.run(["ip", "-n", network.switch, "link", "set", "target", "alias", "podferry-hold:br9"], check=True)
    with (
        namespace.NetworkNamespace(network.path(network.switch)) as host,
        namespace.NetworkNamespace(network.path(network.target)) as target,
        pytest.raises(errors.Permanent) as caught,
    ):
        neighbours.Neighbours(target, host)
    assert caught.value.reason == "NoBridge"


def test_conntrack_forgets_a_flow_but_not_a_translated_one(
    pod: namespace.NetworkNamespace, client: namespace.NetworkNamespace
) -> None:
    tables = client.run(nft.Nft)
    tracked = "table inet tracked { chain out { type filter hook output priority 0; ct state new accept; }; }"
    translated = (
        "table ip nat { chain out { type nat hook output priority -100; tcp dport 9000 dnat to 10.99.0.2:8000; }; }"
    )
    client.run(lambda: tables.run(f"{tracked}\n{translated}"))
    listener, inner, outer = connected(pod, client)
    with listener, inner, outer, client.run(lambda: socket.create_connection((netns.POD, 9000), timeout=5)) as second:
        tracking = client.run(conntrack.Conntrack)
        direct, indirect = (
            four_tuple.FourTuple(
                socket.inet_aton(netns.POD), 8000, socket.inet_aton(netns.CLIENT), end.getsockname()[1]
            )
            for end in (outer, second)
        )
        assert tracking.forget(direct)
        assert not tracking.forget(direct)
        assert not tracking.forget(indirect), "without it the flow would lose its way"
        outer.sendall(b"on")
        assert inner.recv(10) == b"on"
        tracking.close()
    client.run(tables.close)


# --- options


CHOSEN: dict[tuple[int, int], bytes] = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): struct.pack("i", 1),
    (socket.SOL_SOCKET, socket.SO_LINGER): struct.pack("ii", 1, 7),
    (socket.SOL_SOCKET, socket.SO_RCVLOWAT): struct.pack("i", 3),
    (socket.SOL_SOCKET, socket.SO_MARK): struct.pack("i", 77),
    (socket.SOL_SOCKET, socket.SO_OOBINLINE): struct.pack("i", 1),
    (socket.SOL_SOCKET, 20): struct.pack("qq", 3, 0),
    (socket.IPPROTO_IP, socket.IP_TOS): struct.pack("i", 0x10),
    (socket.SOL_SOCKET, socket.SO_PRIORITY): struct.pack("i", 5),  # after IP_TOS, which sets it
    (socket.IPPROTO_IP, socket.IP_TTL): struct.pack("i", 33),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): struct.pack("i", 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): struct.pack("i", 41),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): struct.pack("i", 42),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): struct.pack("i", 9),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): struct.pack("i", 61234),
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT): struct.pack("i", 4321),
    (socket.IPPROTO_TCP, socket.TCP_SYNCNT): struct.pack("i", 4),
    (socket.IPPROTO_TCP, socket.TCP_LINGER2): struct.pack("i", 13),
    (socket.IPPROTO_TCP, socket.TCP_CORK): struct.pack("i", 1),
    (socket.IPPROTO_TCP, socket.TCP_CONGESTION): b"reno".ljust(16, b"\0"),
}


class Kept(NamedTuple):
    """What must be the same after the move."""

    values: options.Values
    buffers: tuple[int, int, int]
    negotiated: tuple[int, int, int]


def established(scene: move.Scene, process: move.Process) -> Iterator[socket.socket]:
    """Yield a duplicate of each connection of a process."""
    with find.Duplicator() as duplicator:
        for holder in find.holders(scene.containers(process)):
            one = duplicator.duplicate(holder)
            assert one is not None
            with one:
                if find.is_tcp(one) and tcp_info.read(one).state == state.State.ESTABLISHED:
                    yield one


def kept(scene: move.Scene, process: move.Process) -> dict[int, Kept]:
    """Return what must be kept of each connection, by the peer's port."""
    found = {}
    for one in established(scene, process):
        values = options.read(one)
        info = tcp_info.read(one)
        assert not repair.is_on(one)
        repair.switch_on(one)
        mss = repair.get_mss(one)
        repair.release(one, values[options.REUSEADDR])
        sndbuf, rcvbuf, locked = (
            one.getsockopt(socket.SOL_SOCKET, name) for name in (socket.SO_SNDBUF, socket.SO_RCVBUF, 72)
        )
        found[one.getpeername()[1]] = Kept(
            values, (sndbuf // 2, (rcvbuf + 1) // 2, locked), (info.options, info.wscale, mss)
        )
    return found


@pytest.mark.parametrize("fixed_buffers", [True, False])
def test_every_option_travels(tmp_path: Path, *, fixed_buffers: bool) -> None:
    with move.Scene(tmp_path, "sink", 2) as scene, scene.engines() as steps:
        scene.run(0.1)
        steps.freeze()
        move.pause(0.2)
        for one in established(scene, scene.first):
            for (level, name), value in CHOSEN.items():
                one.setsockopt(level, name, value)
            if fixed_buffers:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 70_000)
        before = kept(scene, scene.first)
        steps.prepare()
        steps.flush()
        steps.cut()
        steps.target.resume()
        assert scene.second is not None
        after = kept(scene, scene.second)
        assert len(before) == 2
        assert after.keys() == before.keys()
        for port, was in before.items():
            now = after[port]
            assert (now.buffers, now.negotiated) == (was.buffers, was.negotiated)
            changed = {key for key, value in was.values.items() if now.values.get(key) != value}
            assert changed <= {(socket.IPPROTO_TCP, socket.TCP_QUICKACK)}, "that one the kernel changes by itself"
            assert {key: now.values[key] for key in CHOSEN} == CHOSEN


@pytest.mark.parametrize("wrong", [(socket.SOL_SOCKET, 26, 1), (socket.SOL_SOCKET, socket.SO_LINGER, 9), (6, 19, 4)])
def test_an_option_that_does_not_travel_is_refused(wrong: tuple[int, int, int]) -> None:
    level, name, size = wrong
    with pytest.raises(errors.InvalidInput):
        options.check([snapshot.Option(level, name, bytes(size))], socket.AF_INET)


# --- what the target refuses


def forged(**changes: object) -> bytes:
    head = snapshot.Head(
        snapshot.Key("app", 2, 12),
        four_tuple.FourTuple(socket.inet_aton(netns.POD), 8000, socket.inet_aton(netns.CLIENT), 4711),
        snapshot.Negotiated(1460, 7, 7, True, True, True, False),
        snapshot.Buffers(16384, 131072, 0),
        (),
    )
    return snapshot.encode_early(snapshot.Early(head._replace(**changes), 1, 1, 1, b"", b""))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"key": snapshot.Key("app", 2, 999)},
        {"key": snapshot.Key("other", 2, 12)},
        {"key": snapshot.Key("app", 2, 10)},
        {"four_tuple": four_tuple.FourTuple(bytes([10, 99, 0, 77]), 8000, bytes([10, 99, 0, 3]), 1)},
        {
            "four_tuple": four_tuple.FourTuple(
                socket.inet_pton(10, netns.POD6), 8000, socket.inet_pton(10, netns.CLIENT6), 1
            )
        },
        {"options": (snapshot.Option(socket.SOL_SOCKET, 26, b"x"),)},
    ],
    ids=["no such descriptor", "no such container", "a listener", "foreign address", "other family", "option"],
)
def test_the_target_checks_again_what_it_is_told(tmp_path: Path, changes: dict[str, object]) -> None:
    with move.Scene(tmp_path, "echo", 3) as scene, scene.engines() as steps:
        steps.freeze()
        second = scene.stand_in()
        steps.target.lock()
        steps.target.find(scene.containers(second))
        with pytest.raises(errors.InvalidInput):
            steps.target.rebuild(forged(**changes))


def test_the_backend_says_its_name() -> None:
    chosen: backend.Backend = backend.RepairBackend()
    assert chosen.name == "repair"
