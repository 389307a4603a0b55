"""Any sequence of looks, half-done actions, restarts and faults ends moved or as before (style.md, 23)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.operator_world import World

from podferry import steps
from podferry.steps import Step
from podferry_operator.api.conditions import Status, Type

Event = Callable[[World], object]


def _named(name: str, event: Event) -> Event:
    event.__name__ = name
    return event


def _turn(crash_after: int | None) -> Event:
    return _named(f"turn({crash_after})", lambda world: world.turn(crash_after=crash_after))


ORDINARY: list[Event] = [_turn(None), World.kubelets, World.source_advances]
FAULTS: list[Event] = [
    _turn(-1),
    _turn(0),
    _turn(1),
    World.crash,
    World.source_fails,
    World.source_forgets,
    World.target_fails,
    World.delete,
    _named("deadline passes", lambda world: world.advance(601)),
    _named("source silent", lambda world: world.reach(source=False, target=True)),
    _named("target silent", lambda world: world.reach(source=True, target=False)),
    _named("both silent", lambda world: world.reach(source=False, target=False)),
    _named("both answer", lambda world: world.reach(source=True, target=True)),
]
events = st.lists(st.one_of(st.sampled_from(ORDINARY), st.sampled_from(ORDINARY), st.sampled_from(FAULTS)), max_size=60)


def _ordinary(world: World, count: int) -> None:
    for number in range(count):
        ORDINARY[number % 3](world)


def _judge(world: World) -> None:
    migration = world.migration
    assert world.moved or world.as_before, f"neither moved nor as before: {world.pods}"
    if migration is not None:
        assert not migration.held
        assert migration.condition_is(Type.SUCCEEDED, Status.TRUE) == world.moved
        assert migration.condition_is(Type.SUCCEEDED, Status.FALSE) == world.as_before
        assert (migration.step is Step.DONE) == world.moved


@settings(max_examples=250, deadline=None)
@given(events)
def test_every_history_ends_moved_or_as_before(history: list[Event]) -> None:
    world = World()
    for event in history:
        event(world)
    world.settle()
    _judge(world)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 45), st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 8)), min_size=1, max_size=4))
def test_faults_at_any_moments(before: int, faults: list[tuple[Event, int]]) -> None:
    world = World()
    _ordinary(world, before)
    for fault, after in faults:
        fault(world)
        _ordinary(world, after)
    world.settle()
    _judge(world)


def test_undisturbed_it_moves_and_walks_the_table() -> None:
    world = World()
    world.settle()
    assert world.moved
    assert world.clean
    walked = [Step.REQUESTED, *world.history]
    assert all(steps.ORDER[before] < steps.ORDER[after] for before, after in itertools.pairwise(walked))
    assert world.history[-1] is Step.DONE


def test_a_crash_between_any_two_actions_changes_nothing_about_the_end() -> None:
    for moment in range(40):
        for crash_after in (-1, 0, 1, 2):
            world = World()
            _ordinary(world, moment)
            world.turn(crash_after=crash_after)
            world.settle()
            assert world.moved, (moment, crash_after)
            assert world.clean


def test_a_dry_run_touches_nothing() -> None:
    world = World(dryRun=True)
    world.settle()
    migration = world.migration
    assert migration is not None
    assert migration.condition_is(Type.SUCCEEDED, Status.TRUE)
    assert not migration.held
    assert world.as_before
    assert world.tokens == 0


def test_time_to_live_deletes_the_finished_migration() -> None:
    world = World(ttlAfterFinished="1h")
    world.settle()
    assert world.object is None
    assert world.moved
    assert world.now > 1_700_000_000 + 3600


def test_the_reason_for_undoing_survives_a_restart_at_any_moment() -> None:
    for moment in range(12):
        world = World()
        while not world.source_frozen:
            _ordinary(world, 3)
        world.source_fails()
        _ordinary(world, moment)
        world.turn(crash_after=0)
        world.settle()
        migration = world.migration
        assert migration is not None
        assert migration.conditions[Type.SUCCEEDED].reason == "FaultInjected"
        assert world.as_before
        assert world.clean
