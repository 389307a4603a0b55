"""Sequence numbers go round."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.tcp import strategies

from podferry.tcp import sequence


@given(strategies.SEQUENCES, st.integers(-(1 << 31), (1 << 31) - 1))
def test_distance_undoes_add(start: int, count: int) -> None:
    assert sequence.distance(start, sequence.add(start, count)) == count


@given(strategies.SEQUENCES, st.integers(1, (1 << 31) - 1))
def test_what_was_added_comes_after(start: int, count: int) -> None:
    assert sequence.before(start, sequence.add(start, count))
    assert not sequence.before(sequence.add(start, count), start)
    assert not sequence.before(start, start)


@given(strategies.SEQUENCES, st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_within_is_closed_on_both_sides(start: int, length: int, offset: int) -> None:
    end = sequence.add(start, length)
    assert sequence.within(sequence.add(start, offset), start, end) == (offset <= length)
    assert not sequence.within(sequence.add(start, -1), start, end)


def test_the_end_of_the_circle() -> None:
    assert sequence.add(0xFFFFFFFF, 2) == 1
    assert sequence.distance(0xFFFFFFFF, 1) == 2
    assert sequence.distance(1, 0xFFFFFFFF) == -2
