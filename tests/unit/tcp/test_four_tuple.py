"""Four-tuples of both families, and of IPv4 inside IPv6."""

from __future__ import annotations

import ipaddress
import socket

from podferry.tcp import four_tuple


def of(local: str, peer: str) -> four_tuple.FourTuple:
    return four_tuple.FourTuple(ipaddress.ip_address(local).packed, 80, ipaddress.ip_address(peer).packed, 4711)


def test_text() -> None:
    assert str(of("10.0.0.1", "10.0.0.2")) == "10.0.0.1:80 10.0.0.2:4711"
    assert str(of("fd00::1", "fd00::2")) == "[fd00::1]:80 [fd00::2]:4711"
    assert str(of("::ffff:10.0.0.1", "::ffff:10.0.0.2")) == "10.0.0.1:80 10.0.0.2:4711"


def test_mapped_addresses_are_ipv4_on_the_wire() -> None:
    mapped = of("::ffff:10.0.0.1", "::ffff:10.0.0.2")
    assert mapped.family == socket.AF_INET6
    assert mapped.wire == of("10.0.0.1", "10.0.0.2")
    assert mapped.wire.family == socket.AF_INET
    assert of("fd00::1", "fd00::2").wire == of("fd00::1", "fd00::2")


def test_loopback() -> None:
    assert of("127.0.0.1", "127.0.0.1").loopback
    assert of("::1", "::1").loopback
    assert of("::ffff:127.0.0.1", "::ffff:127.0.0.1").loopback
    assert of("10.0.0.1", "10.0.0.1").loopback
    assert not of("10.0.0.1", "10.0.0.2").loopback
