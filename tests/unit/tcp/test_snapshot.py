"""The stream of connections: whatever is encoded comes back, whatever is not is refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.tcp import strategies

from podferry import errors
from podferry.tcp import snapshot

Connection = tuple[snapshot.Early, snapshot.Late, snapshot.ConnectionSnapshot]


def records(made: list[Connection]) -> list[bytes]:
    """Return the records of a whole stream: first every Early, then every Late."""
    early = [snapshot.encode_early(one[0]) for one in made]
    return early + [snapshot.encode_late(one[1]._replace(number=number)) for number, one in enumerate(made)]


@given(strategies.connections())
def test_joining_gives_the_whole(made: Connection) -> None:
    early, late, whole = made
    joined = snapshot.join(early, late)
    assert joined == whole
    assert joined.unacknowledged + joined.unsent == whole.send_queue


@given(st.lists(strategies.connections(), max_size=4), st.integers(1, 500))
def test_a_stream_comes_back_however_it_is_cut(made: list[Connection], size: int) -> None:
    stream = records(made)
    decoder, found = snapshot.Decoder(), []
    pieces = list(snapshot.batches(stream, size))
    for piece in pieces:
        assert 0 < len(piece) <= size
        found += decoder.feed(piece)
    decoder.finish()
    expected: list[snapshot.Early | snapshot.Late] = [one[0] for one in made]
    expected += [one[1]._replace(number=number) for number, one in enumerate(made)]
    assert found == expected
    assert decoder.digest == hashlib.sha256(b"".join(stream)).digest()


@given(strategies.connections(), st.data())
def test_a_stream_that_ends_early_is_refused(made: Connection, data: st.DataObject) -> None:
    stream = b"".join(records([made]))
    decoder = snapshot.Decoder()
    decoder.feed(stream[: data.draw(st.integers(1, len(stream) - 1).filter(lambda n: n != len(records([made])[0])))])
    with pytest.raises(errors.InvalidInput):
        decoder.finish()


@given(strategies.connections(), st.data())
def test_a_changed_byte_never_breaks_the_decoder(made: Connection, data: st.DataObject) -> None:
    stream = bytearray(b"".join(records([made])))
    position = data.draw(st.integers(0, len(stream) - 1))
    stream[position] ^= data.draw(st.integers(1, 255))
    decoder = snapshot.Decoder()
    try:
        found = decoder.feed(bytes(stream))
    except errors.InvalidInput:
        return
    assert decoder.digest != hashlib.sha256(b"".join(records([made]))).digest()
    for record in found:
        if isinstance(record, snapshot.Early):
            assert len(record.send_queue) <= snapshot.QUEUE_LIMIT


@given(st.binary(max_size=400))
def test_noise_is_refused_or_waited_for(noise: bytes) -> None:
    decoder = snapshot.Decoder()
    try:
        decoder.feed(noise)
        decoder.finish()
    except errors.InvalidInput:
        return
    assert noise == b""


@given(strategies.connections(), st.integers(1, 1000))
def test_parts_that_do_not_fit_are_refused(made: Connection, amount: int) -> None:
    early, late, _ = made
    for wrong in (
        late._replace(rcv_nxt=(late.rcv_nxt + amount) % (1 << 32)),
        late._replace(snd_una=(early.snd_una - amount) % (1 << 32)),
        late._replace(snd_nxt=(early.write_seq + amount) % (1 << 32)),
        late._replace(arrived=late.arrived + bytes(amount)),
    ):
        with pytest.raises(errors.InvalidInput):
            snapshot.join(early, wrong)


def test_an_endless_record_is_refused_before_it_arrives() -> None:
    with pytest.raises(errors.InvalidInput):
        snapshot.Decoder().feed(b"\xff\xff\xff\xff\x01")
