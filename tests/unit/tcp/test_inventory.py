"""What becomes of each kind of socket."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podferry.tcp import four_tuple, inventory, snapshot, state

WHERE = four_tuple.FourTuple(bytes([10, 0, 0, 1]), 80, bytes([10, 0, 0, 2]), 4711)
PLAIN = inventory.Observed(state.State.ESTABLISHED, WHERE, snapshot.Key("app", 7, 5), 1234, "redis-server")


@pytest.mark.parametrize(
    ("changes", "fate", "reason"),
    [
        ({}, inventory.Fate.MOVES, ""),
        ({"state": state.State.CLOSE_WAIT}, inventory.Fate.MOVES, ""),
        ({"state": state.State.LISTEN}, inventory.Fate.RESTORED, ""),
        ({"state": state.State.CLOSE}, inventory.Fate.RESTORED, ""),
        ({"state": state.State.TIME_WAIT, "key": None}, inventory.Fate.LEFT, ""),
        ({"state": state.State.LISTEN, "backlog": 2}, inventory.Fate.UNMOVABLE, "NotAccepted"),
        ({"key": None}, inventory.Fate.UNMOVABLE, "NotAccepted"),
        ({"state": state.State.FIN_WAIT1, "key": None}, inventory.Fate.UNMOVABLE, "Orphan"),
        ({"state": state.State.SYN_RECV, "key": None}, inventory.Fate.LEFT, ""),
        ({"state": state.State.FIN_WAIT2, "key": None}, inventory.Fate.LEFT, ""),
        ({"state": state.State.LAST_ACK, "key": None}, inventory.Fate.UNMOVABLE, "Orphan"),
        ({"state": state.State.SYN_SENT}, inventory.Fate.UNMOVABLE, "State"),
        ({"state": state.State.FIN_WAIT2}, inventory.Fate.UNMOVABLE, "State"),
        ({"mptcp": True}, inventory.Fate.UNMOVABLE, "MPTCP"),
        ({"upper_protocol": "tls"}, inventory.Fate.UNMOVABLE, "UpperProtocol"),
        ({"urgent": True}, inventory.Fate.UNMOVABLE, "UrgentData"),
    ],
)
def test_fates(changes: dict[str, object], fate: inventory.Fate, reason: str) -> None:
    verdict = inventory.classify(dataclasses.replace(PLAIN, **changes))  # type: ignore[arg-type]
    assert (verdict.fate, verdict.reason) == (fate, reason)
    assert bool(verdict.message) == (fate is inventory.Fate.UNMOVABLE)


@given(st.sampled_from(state.State), st.booleans(), st.integers(0, 3), st.booleans(), st.sampled_from(["", "tls"]))
def test_what_moves_can_be_rebuilt(now: state.State, held: bool, backlog: int, mptcp: bool, upper: str) -> None:
    socket = dataclasses.replace(
        PLAIN, state=now, key=PLAIN.key if held else None, backlog=backlog, mptcp=mptcp, upper_protocol=upper
    )
    if inventory.classify(socket).fate is inventory.Fate.MOVES:
        assert held
        assert now in inventory.MOVABLE_STATES
        assert not mptcp
        assert not upper


def test_what_stands_in_the_way_is_told_for_people() -> None:
    urgent = inventory.classify(dataclasses.replace(PLAIN, urgent=True))
    (told,) = inventory.Inventory((urgent, inventory.classify(PLAIN))).unmovable
    assert (told.container, told.process, told.pid, told.fd) == ("app", "redis-server", 1234, 5)
    assert told.socket == "tcp ESTABLISHED 10.0.0.1:80 10.0.0.2:4711"
