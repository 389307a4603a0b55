"""Arbitrary connections, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from podferry.tcp import four_tuple, sequence, snapshot, state

SEQUENCES = st.integers(0, sequence.MODULUS - 1)
_BYTES = st.integers(0, 1 << 30)
PORTS = st.integers(1, 65535)
STATES = st.sampled_from([state.State.ESTABLISHED, state.State.CLOSE_WAIT])
OPTIONS = st.builds(snapshot.Option, st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=64))
NEGOTIATED = st.builds(
    snapshot.Negotiated,
    st.integers(1, 65535),
    st.integers(0, 14),
    st.integers(0, 14),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
KEYS = st.builds(
    snapshot.Key,
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=63),
    st.integers(1, (1 << 31) - 1),
    st.integers(0, (1 << 31) - 1),
)


@st.composite
def four_tuples(draw: st.DrawFn) -> four_tuple.FourTuple:
    """Return a four-tuple of either family."""
    size = draw(st.sampled_from([4, 16]))
    address = st.binary(min_size=size, max_size=size)
    return four_tuple.FourTuple(draw(address), draw(PORTS), draw(address), draw(PORTS))


HEADS = st.builds(
    snapshot.Head,
    KEYS,
    four_tuples(),
    NEGOTIATED,
    st.builds(snapshot.Buffers, _BYTES, _BYTES, st.integers(0, 3)),
    st.lists(OPTIONS, max_size=8).map(tuple),
)


@st.composite
def connections(draw: st.DrawFn) -> tuple[snapshot.Early, snapshot.Late, snapshot.ConnectionSnapshot]:
    """Return a connection before the cut, what moved until the cut, and the whole."""
    head, now, read_seq, snd_una = draw(HEADS), draw(STATES), draw(SEQUENCES), draw(SEQUENCES)
    received, arrived, send = (
        draw(st.binary(max_size=300)),
        draw(st.binary(max_size=300)),
        draw(st.binary(max_size=300)),
    )
    acknowledged = draw(st.integers(0, len(send)))
    sent = draw(st.integers(acknowledged, len(send)))
    early = snapshot.Early(head, snd_una, sequence.add(snd_una, len(send)), read_seq, received, send)
    late = snapshot.Late(
        0,
        now,
        sequence.add(snd_una, acknowledged),
        sequence.add(snd_una, sent),
        sequence.add(read_seq, len(received) + len(arrived) + (now is state.State.CLOSE_WAIT)),
        snapshot.Window(*(draw(SEQUENCES) for _ in range(5))),
        draw(SEQUENCES),
        arrived,
    )
    whole = snapshot.ConnectionSnapshot(head, *late[1:7], received + arrived, send[acknowledged:])
    return early, late, whole
