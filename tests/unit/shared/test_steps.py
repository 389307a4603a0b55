"""The table of steps: complete, in order, and the only source of legal moves."""

from __future__ import annotations

import itertools

import pytest

from podferry import steps
from podferry.steps import Lead, Step


def test_the_table_has_every_step_once_and_in_the_order_of_the_enum() -> None:
    assert [row.step for row in steps.TABLE] == list(Step)


def test_only_the_next_step_is_legal() -> None:
    for before, after in itertools.product(Step, repeat=2):
        assert steps.legal(before, after) == (steps.ORDER[after] - steps.ORDER[before] == 1)


@pytest.mark.parametrize(
    ("lead", "path"),
    [
        (
            Lead.SOURCE,
            [Step.PREPARE, Step.FREEZE, Step.SAVE, Step.SEND, Step.FLUSH, Step.CUT, Step.COMMIT, Step.CLEANUP],
        ),
        (Lead.TARGET, [Step.PREPARE, Step.RESTORE, Step.RESUME, Step.DONE]),
    ],
)
def test_a_part_passes_over_what_others_lead(lead: Lead, path: list[Step]) -> None:
    assert all(steps.legal(before, after, lead) for before, after in itertools.pairwise(path))


@pytest.mark.parametrize(
    ("lead", "before", "after"),
    [
        (Lead.SOURCE, Step.FREEZE, Step.SEND),
        (Lead.TARGET, Step.PREPARE, Step.RESUME),
        (Lead.SOURCE, Step.CUT, Step.FREEZE),
        (Lead.TARGET, Step.RESTORE, Step.RESTORE),
    ],
)
def test_no_part_passes_over_its_own_step_or_goes_back(lead: Lead, before: Step, after: Step) -> None:
    assert not steps.legal(before, after, lead)


def test_every_step_before_commit_that_changes_something_has_an_undo_and_none_after() -> None:
    changing = [row for row in steps.TABLE if row.step not in (Step.REQUESTED, Step.PREFLIGHT)]
    assert [row.step for row in changing if bool(row.undo) == steps.committed(row.step)] == []


def test_the_nine_steps_of_the_paper_all_have_a_home() -> None:
    assert {number for row in steps.TABLE for number in row.paper} == set(range(1, 10))
