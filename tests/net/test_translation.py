"""A flow goes on with a pod that has moved to another address: its peer's node translates it, the peer sees nothing.

peer 10.98.1.2 ── node ┬─ old 10.98.2.2      the node routes between three namespaces and tracks connections,
└─ new 10.98.3.2      with a Service 10.98.9.9 in front of the old address; IPv6 alike
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from tests.support import move

from podferry.tcp import four_tuple, snapshot
from podferry_agent.connections import options, repair, taking, tcp_info
from podferry_agent.net import conntrack, ctnetlink, namespace, netlink, nft

pytestmark = pytest.mark.net

PEER, OLD, NEW, NEWER = 1, 2, 3, 4
SERVICE = "10.98.9.9"
PORT = 8000
BULK = os.urandom(300_000)
RULES = f"""
table inet tracked {{
  chain forward {{ type filter hook forward priority 0; policy accept; ct state invalid counter drop; }}
}}
table ip nat {{
  chain prerouting {{ type nat hook prerouting priority -100; ip daddr {SERVICE} dnat to 10.98.{OLD}.2; }}
}}
table ip6 nat {{
  chain prerouting {{ type nat hook prerouting priority -100; }}
}}
"""
_numbers = itertools.count()


class Fabric:
    """The namespaces; a context manager."""

    def __init__(self) -> None:
        self._prefix = f"pf{os.getpid()}x{next(_numbers)}"
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.node = self._namespace("n")
        self.node.run(lambda: self._write("net/ipv4/ip_forward", 1))
        self.node.run(lambda: self._write("net/ipv6/conf/all/forwarding", 1))
        self.places = {number: self._place(number) for number in (PEER, OLD, NEW, NEWER)}
        tables = self.node.run(nft.Nft)
        self._exit.callback(self.node.run, tables.close)
        self.node.run(lambda: tables.run(RULES))
        self._tables = tables
        self.tracking: conntrack.Conntrack = self.node.run(conntrack.Conntrack)
        self._exit.callback(self.tracking.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def invalid(self) -> int:
        """Packets that connection tracking could make nothing of."""
        listed = self.node.run(lambda: self._tables.run("list chain inet tracked forward"))
        return int(listed.partition("counter packets ")[2].split()[0])

    def narrow(self, number: int, mtu: int) -> None:
        """Let the node's cable to a place carry no more than `mtu` bytes: larger packets draw ICMP errors."""
        self._ip("-n", f"{self._prefix}n", "link", "set", f"v{number}", "mtu", str(mtu))

    def _place(self, number: int) -> namespace.NetworkNamespace:
        there, node, name = self._namespace(str(number)), f"{self._prefix}n", f"{self._prefix}{number}"
        cable = ("type", "veth", "peer", "name", "eth0", "netns", name)
        self._ip("-n", node, "link", "add", "name", f"v{number}", *cable)
        for where, link, host in ((node, f"v{number}", 1), (name, "eth0", 2)):
            self._ip("-n", where, "addr", "add", f"10.98.{number}.{host}/24", "dev", link)
            self._ip("-n", where, "addr", "add", f"fd98:{number}::{host}/64", "dev", link, "nodad")
            self._ip("-n", where, "link", "set", link, "up")
        self._ip("-n", name, "route", "add", "default", "via", f"10.98.{number}.1")
        self._ip("-n", name, "-6", "route", "add", "default", "via", f"fd98:{number}::1")
        return there

    def _namespace(self, suffix: str) -> namespace.NetworkNamespace:
        name = f"{self._prefix}{suffix}"
        self._ip("netns", "add", name)
        self._exit.callback(self._ip, "netns", "del", name)
        self._ip("-n", name, "link", "set", "lo", "up")
        return self._exit.enter_context(namespace.NetworkNamespace(Path("/run/netns") / name))

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    @staticmethod
    def _write(setting: str, value: int) -> None:
        Path("/proc/sys", setting).write_text(str(value))


def address(number: int, family: int = socket.AF_INET) -> str:
    return f"10.98.{number}.2" if family == socket.AF_INET else f"fd98:{number}::2"


def packed(number: int, family: int = socket.AF_INET) -> bytes:
    return socket.inet_pton(family, address(number, family))


class Flow:
    """One connection: `pod` is its end in the pod, `peer` the other; `where` is the pod's four-tuple."""

    def __init__(self, fabric: Fabric, pod: socket.socket, peer: socket.socket) -> None:
        self._fabric, self.pod, self.peer = fabric, pod, peer
        for end in (pod, peer):
            end.settimeout(10)

    @property
    def where(self) -> four_tuple.FourTuple:
        """The connection as its pod knows it."""
        local, peer = self.pod.getsockname(), self.pod.getpeername()
        family = self.pod.family
        return four_tuple.FourTuple(
            socket.inet_pton(family, local[0]), local[1], socket.inet_pton(family, peer[0]), peer[1]
        )

    def move(self, number: int) -> None:
        """Rebuild the pod's end at another place, under that place's address, and redirect the flow."""
        where, family = self.where, self.pod.family
        move.wait_for("acknowledgement", lambda: not tcp_info.read(self.pod).unacked)  # queues stay empty here
        taken = taking.begin(self.pod, snapshot.Key("c", 1, 1), where, {})
        assert taken is not None
        info = tcp_info.read(self.pod)
        snd_una, rcv_nxt, window = taken.snd_una(info), taken.rcv_nxt(info), repair.get_window(self.pod)
        clock = taken.clock()
        self.pod.close()

        def rebuild() -> socket.socket:
            made = socket.socket(family)
            made.setsockopt(*options.REUSEADDR, 1)
            repair.switch_on(made)
            repair.set_seq(made, repair.RECEIVE_QUEUE, rcv_nxt)
            repair.set_seq(made, repair.SEND_QUEUE, snd_una)
            made.bind((address(number, family), where.local_port))
            repair.connect(made, where, taken.head.negotiated.mss)
            repair.set_negotiated(made, taken.head.negotiated)
            repair.set_clock(made, clock, microseconds=taken.head.negotiated.microseconds)
            repair.set_window(made, window)
            repair.switch_off(made)
            made.settimeout(10)
            return made

        self._fabric.tracking.redirect(where, packed(number, family))
        self.pod = self._fabric.places[number].run(rebuild)

    def talk(self, data: bytes = b"both ways") -> None:
        """Send in both directions and compare."""
        for sender, receiver in ((self.peer, self.pod), (self.pod, self.peer)):
            writer = threading.Thread(target=sender.sendall, args=(data,))
            writer.start()
            got = bytearray()
            while len(got) < len(data):
                got += receiver.recv(1 << 16)
            writer.join()
            assert got == data

    def close(self) -> None:
        """Close both ends."""
        self.pod.close()
        self.peer.close()


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    with Fabric() as made:
        yield made


def connect(fabric: Fabric, target: str, *, family: int = socket.AF_INET, outgoing: bool = False) -> Flow:
    """Return a connection between the pod at its old place and the peer; `outgoing`: begun by the pod."""
    inside, outside = fabric.places[OLD], fabric.places[PEER]
    server, client = (outside, inside) if outgoing else (inside, outside)
    with server.run(
        lambda: socket.create_server((address(PEER if outgoing else OLD, family), PORT), family=family)
    ) as up:
        began = client.run(lambda: socket.create_connection((target, PORT), timeout=10))
        accepted, _ = up.accept()
    return Flow(fabric, began, accepted) if outgoing else Flow(fabric, accepted, began)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("outgoing", [False, True])
def test_a_flow_follows_its_pod_to_another_address(fabric: Fabric, family: int, *, outgoing: bool) -> None:
    flow = connect(fabric, address(PEER if outgoing else OLD, family), family=family, outgoing=outgoing)
    flow.talk()
    name = flow.peer.getpeername()
    flow.move(NEW)
    flow.talk(BULK)
    assert flow.peer.getpeername() == name
    assert flow.pod.getsockname()[0] == address(NEW, family)
    assert fabric.invalid() == 0
    flow.close()


def test_a_flow_through_a_service_follows_too(fabric: Fabric) -> None:
    flow = connect(fabric, SERVICE)
    flow.talk()
    flow.move(NEW)
    flow.talk(BULK)
    assert flow.peer.getpeername() == (SERVICE, PORT)
    assert fabric.invalid() == 0
    flow.close()


@pytest.mark.parametrize("target", [address(OLD), SERVICE])
def test_a_chain_of_moves_is_one_translation(fabric: Fabric, target: str) -> None:
    flow = connect(fabric, target)
    for number in (NEW, NEWER, OLD, NEW):
        flow.move(number)
        flow.talk()
    assert fabric.invalid() == 0
    flow.close()


@pytest.mark.parametrize("narrow", [PEER, NEW])
def test_errors_of_the_path_reach_both_ends(fabric: Fabric, narrow: int) -> None:
    """A path that has become narrower says so by ICMP; who is not told sends in vain for ever."""
    flow = connect(fabric, address(OLD))
    flow.move(NEW)
    fabric.narrow(narrow, 1100)
    flow.talk(BULK)
    flow.close()


def test_other_flows_are_left_alone(fabric: Fabric) -> None:
    flow, other = connect(fabric, address(OLD)), connect(fabric, address(OLD))
    flow.move(NEW)
    flow.talk()
    other.talk()
    fresh = connect(fabric, address(OLD))
    fresh.talk()
    for one in (flow, other, fresh):
        one.close()


def test_the_translation_goes_with_its_flow(fabric: Fabric) -> None:
    flow = connect(fabric, address(OLD))
    where = flow.where
    flow.move(NEW)
    flow.talk()
    moved = where._replace(local=packed(NEW))
    tracking = fabric.node.run(lambda: netlink.Netlink(netlink.NETFILTER))
    entry = ctnetlink.find(tracking, moved)
    assert entry is not None
    assert entry.translated
    assert entry.timeout > 3600
    flow.close()
    move.wait_for("end of the flow", lambda: (left := ctnetlink.find(tracking, moved)) is None or left.timeout <= 120)
    tracking.close()


def test_without_the_redirection_the_flow_is_lost(fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = connect(fabric, address(OLD))
    monkeypatch.setattr(conntrack.Conntrack, "redirect", lambda *_: None)
    flow.move(NEW)
    flow.pod.settimeout(1)
    flow.peer.sendall(b"nobody hears")
    with pytest.raises((TimeoutError, ConnectionError)):
        flow.pod.recv(1)
    flow.close()
