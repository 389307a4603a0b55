"""The wire format by itself: what is right passes in any slicing, what is wrong never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lab.workloads import frames


def stream(count: int, length: int = 100) -> tuple[frames.Sender, bytes]:
    sender = frames.Sender(7)
    return sender, b"".join(sender.frame(frames.pattern(7, number, length)) for number in range(count))


def receiver() -> frames.Receiver:
    return frames.Receiver(7, lambda number, length: frames.pattern(7, number, length))


@given(st.lists(st.integers(min_value=1, max_value=500), max_size=20))
def test_any_slicing_of_a_stream_is_received_whole(cuts: list[int]) -> None:
    sender, data = stream(20)
    right = receiver()
    for cut in cuts:
        right.feed(data[:cut])
        data = data[cut:]
    right.feed(data)
    right.finish()
    assert (right.frames, right.received, right.chain) == (20, sender.sent, sender.chain)


@given(st.integers(min_value=0, max_value=20 * 122 - 1), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_anywhere_is_noticed(at: int, mask: int) -> None:
    _, data = stream(20)
    spoilt = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
    with pytest.raises(frames.Corrupt):
        whole(spoilt)


@given(st.integers(min_value=0, max_value=20 * 122 - 1), st.integers(min_value=1, max_value=400))
def test_lost_bytes_anywhere_are_noticed_unless_they_are_the_end(at: int, count: int) -> None:
    sender, data = stream(20)
    spoilt = data[:at] + data[at + count :]
    try:
        received = whole(spoilt)
    except frames.Corrupt:
        return
    assert at + count >= len(data)
    assert received < sender.sent, "a missing end shows in the counters that both ends compare"


@given(st.integers(min_value=0, max_value=20 * 122 - 1), st.integers(min_value=1, max_value=400))
def test_repeated_bytes_anywhere_are_noticed(at: int, count: int) -> None:
    _, data = stream(20)
    end = min(at + count, len(data))
    with pytest.raises(frames.Corrupt):
        whole(data[:end] + data[at:end] + data[end:])


def test_a_whole_frame_lost_or_repeated_is_named_so() -> None:
    _, data = stream(3)
    size = len(data) // 3
    with pytest.raises(frames.Corrupt, match="lost at byte 122: frame 2 came, 1 was due"):
        whole(data[:size] + data[2 * size :])
    with pytest.raises(frames.Corrupt, match="repeated at byte 122: frame 0 came, 1 was due"):
        whole(data[:size] + data)


def test_patterns_differ_between_neighbours_and_streams() -> None:
    assert len({frames.pattern(1, number, 64) for number in range(5000)}) == 5000
    assert frames.pattern(1, 5, 64) != frames.pattern(2, 5, 64)


def test_an_answer_depends_on_history_and_has_the_length_asked_for() -> None:
    assert frames.answer(b"\0" * 32, 10) == b"\0" * 10
    assert len(frames.answer(b"\1" * 32, frames.MAX_LENGTH)) == frames.MAX_LENGTH
    assert frames.answer(b"\1" * 32, 100) != frames.answer(b"\2" * 32, 100)


def whole(data: bytes) -> int:
    one = receiver()
    one.feed(data)
    one.finish()
    return one.received
