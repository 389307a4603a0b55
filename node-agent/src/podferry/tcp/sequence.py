"""Sequence numbers: arithmetic modulo 2**32 (RFC 9293, section 3.4)."""

from __future__ import annotations

MODULUS = 1 << 32
_HALF = 1 << 31


def add(number: int, count: int) -> int:
    """Return the sequence number `count` bytes after `number`; `count` may be negative."""
    return (number + count) % MODULUS


def distance(start: int, end: int) -> int:
    """Return how far `end` lies after `start`: -2**31 … 2**31 - 1, negative when it lies before."""
    return (end - start + _HALF) % MODULUS - _HALF


def before(first: int, second: int) -> bool:
    """Tell whether `first` comes before `second`."""
    return distance(first, second) > 0


def within(number: int, start: int, end: int) -> bool:
    """Tell whether start <= number <= end on the circle."""
    return (number - start) % MODULUS <= (end - start) % MODULUS
