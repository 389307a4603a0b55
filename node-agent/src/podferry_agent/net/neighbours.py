"""Where a pod is plugged in, and who is told: the veth in and out of its bridge, gratuitous ARP, unsolicited NA.

A target pod's interface is up but on no bridge ("held"): the CNI writes the bridge's name into the alias of its host
side, `podferry-hold:<bridge>` (ADR 0003). Attaching means giving it that master. A host side without such an alias
belongs to a network where the pod is reachable from the start; then there is nothing to attach.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from podferry import errors
from podferry_agent.net import namespace, netlink

HOLD_ALIAS = "podferry-hold:"
_NEWLINK, _GETLINK, _GETADDR = 16, 18, 22
_LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""
_ADDRESS = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""
_UINT = struct.Struct("=I")
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS = 1, 3, 5, 10, 18, 20
_IFLA_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ETH_ARP = 0x0806
_ETH_IPV6 = 0x86DD
_BROADCAST = b"\xff" * 6
_ALL_NODES = ipaddress.ip_address("ff02::1").packed
_ALL_NODES_MAC = bytes.fromhex("333300000001")


@dataclass(frozen=True, slots=True)
class Interface:
    """A pod's interface: inside the pod, and its other end on the host."""

    name: str
    mac: bytes
    addresses: tuple[bytes, ...]
    """4 or 16 bytes each, no link-local ones."""
    host_index: int
    """Interface index of the host side."""


class Neighbours:
    """The interfaces of one pod, and the means to plug them in and out and to announce them.

    Everything is looked up beforehand; plugging is then one netlink message.
    """

    def __init__(self, pod: namespace.NetworkNamespace, host: namespace.NetworkNamespace) -> None:
        """Look the pod's interfaces up; `host` is the namespace in which their other ends and the bridge are.

        Raises:
            Permanent: the kernel refused to tell, or an alias names a bridge that is not there.
        """
        with _translated("look up the pod's interfaces"):
            self.interfaces: tuple[Interface, ...] = pod.run(_interfaces)
            self._bridges: dict[int, int] = host.run(lambda: _held(self.interfaces))
            self._route: netlink.Netlink = host.run(lambda: netlink.Netlink(netlink.ROUTE))
            self._packets = pod.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0))

    def attach(self) -> None:
        """Give every held host side its bridge; idempotent."""
        for host_index, bridge in self._bridges.items():
            with _translated("attach the pod to its bridge"):
                self._set_master(host_index, bridge)

    def detach(self) -> None:
        """Take every host side off its bridge; idempotent, also when the interface is gone already."""
        for interface in self.interfaces:
            with _translated("detach the pod from its bridge"):
                self._set_master(interface.host_index, 0)

    def announce(self) -> None:
        """Tell the pod's link where its addresses are now: gratuitous ARP (RFC 5227), unsolicited NA (RFC 4861)."""
        for interface in self.interfaces:
            for address in interface.addresses:
                frame = _arp(interface.mac, address) if len(address) == 4 else _advertisement(interface.mac, address)
                with _translated(f"announce on {interface.name}"):
                    self._packets.sendto(frame, (interface.name, 0))

    def close(self) -> None:
        """Close the sockets."""
        self._route.close()
        self._packets.close()

    def _set_master(self, index: int, master: int) -> None:
        change = netlink.attribute(_IFLA_MASTER, _UINT.pack(master))
        try:
            self._route.call(_NEWLINK, _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + change)
        except OSError as error:
            if master or error.errno != errno.ENODEV:
                raise


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.Permanent(f"cannot {what}: {error}", reason="LinkFailed") from error


def _links(route: netlink.Netlink) -> dict[int, dict[int, bytes]]:
    """Return interface index → attributes of all interfaces."""
    dump = route.dump(_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
    return {_LINK.unpack_from(message)[2]: netlink.attributes(message[_LINK.size :]) for message in dump}


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _held(interfaces: tuple[Interface, ...]) -> dict[int, int]:
    """Return host side → bridge (interface indexes) of the interfaces whose host side is held."""
    with contextlib.closing(netlink.Netlink(netlink.ROUTE)) as route:
        links = _links(route)
    names = {_text(link[_IFLA_IFNAME]): index for index, link in links.items()}
    held = {}
    for interface in interfaces:
        alias = _text(links.get(interface.host_index, {}).get(_IFLA_IFALIAS, b""))
        if not alias.startswith(HOLD_ALIAS):
            continue
        bridge = names.get(alias.removeprefix(HOLD_ALIAS))
        if bridge is None:
            raise errors.Permanent(f"no bridge as in the alias {alias!r}", reason="NoBridge")
        held[interface.host_index] = bridge
    return held


def _interfaces() -> tuple[Interface, ...]:
    with contextlib.closing(netlink.Netlink(netlink.ROUTE)) as route:
        addresses: dict[int, list[bytes]] = {}
        for message in route.dump(_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            *_, scope, index = _ADDRESS.unpack_from(message)
            known = netlink.attributes(message[_ADDRESS.size :])
            if scope == 0:
                addresses.setdefault(index, []).append(known.get(_IFA_LOCAL) or known[_IFA_ADDRESS])
        found = []
        for index, link in _links(route).items():
            kind = _text(netlink.attributes(link.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b""))
            if kind == "veth" and _IFLA_LINK in link:
                (host_index,) = _UINT.unpack(link[_IFLA_LINK])
                own = tuple(addresses.get(index, ()))
                found.append(Interface(_text(link[_IFLA_IFNAME]), link[_IFLA_ADDRESS], own, host_index))
        return tuple(found)


def _arp(mac: bytes, address: bytes) -> bytes:
    request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address + bytes(6) + address
    return _BROADCAST + mac + struct.pack("!H", _ETH_ARP) + request


def _advertisement(mac: bytes, address: bytes) -> bytes:
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + address + b"\x02\x01" + mac
    pseudo = address + _ALL_NODES + struct.pack("!IHBB", len(body), 0, 0, socket.IPPROTO_ICMPV6)
    total = 0xFFFF - (int.from_bytes(pseudo + body) % 0xFFFF or 0xFFFF)
    icmp = body[:2] + struct.pack("!H", total) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(icmp), socket.IPPROTO_ICMPV6, 255) + address + _ALL_NODES
    return _ALL_NODES_MAC + mac + struct.pack("!H", _ETH_IPV6) + header + icmp
