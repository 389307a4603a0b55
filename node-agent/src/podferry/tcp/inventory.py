"""What becomes of each TCP socket of a pod: it moves, it stays behind, or it stands in the way, and why.

Pure: the observation is made elsewhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from podferry.tcp import four_tuple, snapshot, state


class Fate(enum.Enum):
    """What a migration does with a socket."""

    MOVES = "moves"
    RESTORED = "restored by CRIU"
    """Nothing on the wire belongs to it: listeners, and sockets that are not connected."""
    LEFT = "left behind"
    """No process holds it, and no data is on its way: half open, or closed and all of it acknowledged."""
    UNMOVABLE = "unmovable"


@dataclass(frozen=True, slots=True)
class Observed:
    """One TCP socket of the pod's network namespace."""

    state: state.State
    four_tuple: four_tuple.FourTuple
    key: snapshot.Key | None = None
    """Where a process holds it; None: nobody does (not accepted yet, or closed by its process)."""
    pid: int = 0
    """The holder's process id on the node; 0 when nobody holds it."""
    process: str = ""
    """The holder's command name."""
    backlog: int = 0
    """Listeners: connections waiting to be accepted."""
    mptcp: bool = False
    upper_protocol: str = ""
    """TCP_ULP: "tls" for kernel TLS."""
    urgent: bool = False
    """Urgent data waits to be read."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one socket; `reason` (CamelCase) and `message` are filled when it is unmovable."""

    socket: Observed
    fate: Fate
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Unmovable:
    """A socket that stands in the way, told for people; `container` is empty and `fd` -1 when nobody holds it."""

    container: str
    process: str
    pid: int
    fd: int
    socket: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """All TCP sockets of a pod."""

    verdicts: tuple[Verdict, ...] = field(default=())

    @property
    def movable(self) -> tuple[Observed, ...]:
        """The connections that move."""
        return tuple(verdict.socket for verdict in self.verdicts if verdict.fate is Fate.MOVES)

    @property
    def unmovable(self) -> tuple[Unmovable, ...]:
        """The sockets that stand in the way."""
        return tuple(_told(verdict) for verdict in self.verdicts if verdict.fate is Fate.UNMOVABLE)


def _told(verdict: Verdict) -> Unmovable:
    socket, key = verdict.socket, verdict.socket.key
    return Unmovable(
        container=key.container if key else "",
        process=socket.process,
        pid=socket.pid,
        fd=key.fd if key else -1,
        socket=f"tcp {socket.state.name} {socket.four_tuple}",
        reason=verdict.reason,
        message=verdict.message,
    )


MOVABLE_STATES = frozenset({state.State.ESTABLISHED, state.State.CLOSE_WAIT})
_LEFT = frozenset({state.State.SYN_RECV, state.State.NEW_SYN_RECV, state.State.FIN_WAIT2})
_OPEN = frozenset({state.State.ESTABLISHED, state.State.CLOSE_WAIT})
_IDLE = frozenset({state.State.LISTEN, state.State.CLOSE, state.State.BOUND_INACTIVE})


def classify(socket: Observed) -> Verdict:
    """Decide what becomes of one socket."""
    obstacle = _obstacle(socket)
    if obstacle:
        return Verdict(socket, Fate.UNMOVABLE, *obstacle)
    if socket.state in _IDLE:
        return Verdict(socket, Fate.RESTORED)
    if _left(socket):
        return Verdict(socket, Fate.LEFT)
    return Verdict(socket, Fate.MOVES)


def _left(socket: Observed) -> bool:
    """Tell whether a socket is left behind.

    A client whose handshake is not finished tries again; one that was sent everything, our FIN included, only closes.
    """
    return socket.state is state.State.TIME_WAIT or (socket.key is None and socket.state in _LEFT)


def _obstacle(socket: Observed) -> tuple[str, str] | None:
    """Return the reason and the sentence why a socket cannot be moved: the first that holds."""
    connected = socket.state not in _IDLE and not _left(socket)
    nobody, name = connected and socket.key is None, socket.state.name
    rows = (
        (socket.mptcp, "MPTCP", "Multipath TCP sockets cannot be taken apart"),
        (
            not connected and socket.backlog > 0,
            "NotAccepted",
            f"{socket.backlog} connections wait to be accepted; they cannot be moved yet",
        ),
        (nobody and socket.state in _OPEN, "NotAccepted", "it waits to be accepted; it cannot be moved yet"),
        (nobody, "Orphan", f"closed by its process and still in {name}; try again when it is gone"),
        (connected and socket.state not in MOVABLE_STATES, "State", f"{name} connections cannot be moved yet"),
        (
            bool(socket.upper_protocol),
            "UpperProtocol",
            f"the kernel runs {socket.upper_protocol} on it, whose state cannot be read back",
        ),
        (socket.urgent, "UrgentData", "urgent data waits to be read, whose position cannot be carried over"),
    )
    return next(((reason, message) for holds, reason, message in rows if holds), None)
