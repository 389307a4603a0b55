"""The socket options that travel: what setsockopt can set back, compared with a fresh socket's.

Only values that differ from a fresh socket of the same namespace travel. What the application left alone follows the
target's defaults, as it followed the source's. SO_REUSEADDR travels too but is set at the very end, since switching
repair mode off clears it; buffer sizes travel apart (`snapshot.Buffers`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from podferry import errors
from podferry.tcp import snapshot

_INT = 4
_SOL, _IP, _IP6, _TCP = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP

REUSEADDR = (_SOL, socket.SO_REUSEADDR)

# In the order in which they are set: IP_TOS changes SO_PRIORITY.
_COMMON: dict[tuple[int, int], int] = {
    REUSEADDR: _INT,
    (_SOL, socket.SO_REUSEPORT): _INT,
    (_SOL, socket.SO_KEEPALIVE): _INT,
    (_SOL, socket.SO_OOBINLINE): _INT,
    (_SOL, socket.SO_LINGER): 8,
    (_SOL, socket.SO_RCVLOWAT): _INT,
    (_SOL, 20): 16,  # SO_RCVTIMEO_OLD
    (_SOL, 21): 16,  # SO_SNDTIMEO_OLD
    (_SOL, socket.SO_DONTROUTE): _INT,
    (_SOL, 46): _INT,  # SO_BUSY_POLL
    (_SOL, 47): 8,  # SO_MAX_PACING_RATE
    (_SOL, 60): _INT,  # SO_ZEROCOPY
    (_SOL, socket.SO_MARK): _INT,
    (_TCP, socket.TCP_NODELAY): _INT,
    (_TCP, socket.TCP_CORK): _INT,
    (_TCP, socket.TCP_KEEPIDLE): _INT,
    (_TCP, socket.TCP_KEEPINTVL): _INT,
    (_TCP, socket.TCP_KEEPCNT): _INT,
    (_TCP, socket.TCP_SYNCNT): _INT,
    (_TCP, socket.TCP_LINGER2): _INT,
    (_TCP, socket.TCP_QUICKACK): _INT,
    (_TCP, socket.TCP_CONGESTION): 16,
    (_TCP, 16): _INT,  # TCP_THIN_LINEAR_TIMEOUTS
    (_TCP, socket.TCP_USER_TIMEOUT): _INT,
    (_TCP, socket.TCP_NOTSENT_LOWAT): _INT,
    (_TCP, 36): _INT,  # TCP_INQ
}
_IPV4: dict[tuple[int, int], int] = {
    (_IP, socket.IP_TOS): _INT,
    (_IP, socket.IP_TTL): _INT,
    (_IP, 10): _INT,  # IP_MTU_DISCOVER
    (_IP, 15): _INT,  # IP_FREEBIND
    (_IP, socket.IP_TRANSPARENT): _INT,
}
_IPV6: dict[tuple[int, int], int] = {
    (_IP6, socket.IPV6_V6ONLY): _INT,
    (_IP6, socket.IPV6_TCLASS): _INT,
    (_IP6, socket.IPV6_UNICAST_HOPS): _INT,
    (_IP6, 23): _INT,  # IPV6_MTU_DISCOVER
    (_IP6, 78): _INT,  # IPV6_FREEBIND
    (_IP6, 75): _INT,  # IPV6_TRANSPARENT
}
_LAST: dict[tuple[int, int], int] = {(_SOL, socket.SO_PRIORITY): _INT}

_FAMILIES = {socket.AF_INET: _IPV4 | _COMMON | _LAST, socket.AF_INET6: _IPV6 | _IPV4 | _COMMON | _LAST}

Values = dict[tuple[int, int], bytes]


def read(connection: socket.socket) -> Values:
    """Return the value of every option of `connection` that can travel and that this kernel knows."""
    values: Values = {}
    for (level, name), size in _FAMILIES[connection.family].items():
        try:
            values[level, name] = connection.getsockopt(level, name, size)
        except OSError:
            continue
    return values


def differing(connection: socket.socket, fresh: Values) -> tuple[snapshot.Option, ...]:
    """Return the options of `connection` whose values differ from those of a fresh socket."""
    return tuple(
        snapshot.Option(level, name, value)
        for (level, name), value in read(connection).items()
        if value != fresh.get((level, name))
    )


def check(chosen: Iterable[snapshot.Option], family: int) -> None:
    """Check that every option that came over the wire is one that travels, at its right size.

    Raises:
        InvalidInput: it is not.
    """
    known = _FAMILIES[socket.AddressFamily(family)]
    for option in chosen:
        if known.get((option.level, option.name), 0) < len(option.value) or not option.value:
            raise errors.InvalidInput("connections", f"socket option {option.level}/{option.name} does not travel")


def apply(connection: socket.socket, chosen: Iterable[snapshot.Option]) -> None:
    """Set every option but SO_REUSEADDR; OSError when the kernel refuses one."""
    for level, name, value in chosen:
        if (level, name) != REUSEADDR:
            connection.setsockopt(level, name, value)


def reuseaddr(chosen: Iterable[snapshot.Option]) -> bytes | None:
    """Return the value of SO_REUSEADDR if it travels."""
    return next((value for level, name, value in chosen if (level, name) == REUSEADDR), None)
