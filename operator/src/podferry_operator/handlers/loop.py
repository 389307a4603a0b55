"""The loop of one migration: observe, plan, publish, act, wait; until nothing is left to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from podferry import errors
from podferry_operator import metrics
from podferry_operator.api.migration import Migration
from podferry_operator.domain import actions, planner
from podferry_operator.handlers import act, directory, observe, publish

log = logging.getLogger(__name__)

UNEXPECTED_SECONDS = 5.0
"""Pause after an error that nobody expected: often enough to recover, rare enough not to flood the log."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the loops of one operator share."""

    observer: observe.Observer
    hands: act.Hands
    publisher: publish.Publisher
    agents: directory.Directory
    metrics: metrics.Metrics
    admission: asyncio.Lock
    """Held while a migration is accepted, so that two for the same pod cannot both be."""


class Loop:
    """Runs one migration; `wake` makes it look at once. What must be remembered is in the API server or an agent."""

    def __init__(self, namespace: str, name: str, tools: Tools) -> None:
        self._namespace, self._name, self._tools = namespace, name, tools
        self._awake = asyncio.Event()
        self._feeds: tuple[str, observe.Feeds] | None = None
        self._token = act.Token()
        self._failure: errors.PodferryError | None = None

    @property
    def woken(self) -> bool:
        """Whether `wake` was called since the last look began."""
        return self._awake.is_set()

    def wake(self) -> None:
        """Make the loop look at once."""
        self._awake.set()

    async def run(self) -> None:
        """Run until nothing is left to do."""
        try:
            while (wait := await self._guarded()) is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._awake.wait(), wait)
                await asyncio.sleep(actions.SOON)  # one look for many reports
        finally:
            await self._close_feeds()

    async def _guarded(self) -> float | None:
        try:
            return await self._turn()
        except errors.Transient as error:
            log.warning("%s/%s: %s", self._namespace, self._name, error)
            return error.retry_after
        except Exception:
            log.exception("%s/%s: unexpected", self._namespace, self._name)
            self._tools.metrics.loop_failures.inc()
            return UNEXPECTED_SECONDS

    async def _turn(self) -> float | None:
        """Look once and do what follows; returns the seconds to wait, None when the loop may end."""
        self._awake.clear()
        migration = await self._tools.observer.read(self._namespace, self._name)
        if migration is None:
            return None
        feeds = await self._feeds_of(migration)
        async with self._admitting(migration):
            seen = await self._tools.observer.look(
                migration, feeds, token_held=bool(self._token.value), failure=self._failure
            )
            plan = planner.plan(seen)
            published = await self._tools.publisher.publish(seen, plan)
        if published is None:
            return None
        self._failure = None
        return await self._act(plan, published)

    async def _act(self, plan: actions.Plan, migration: Migration) -> float | None:
        for action in plan.actions:
            try:
                await self._tools.hands.act(action, migration, self._token)
            except errors.PodferryError as error:
                log.warning("%s/%s: %s: %s", self._namespace, self._name, type(action).__name__, error)
                self._failure = error
                pause = error.retry_after if isinstance(error, errors.Transient) else actions.SOON
                return max(plan.wait or 0.0, pause)
        return plan.wait

    @contextlib.asynccontextmanager
    async def _admitting(self, migration: Migration) -> AsyncIterator[None]:
        if migration.accepted or migration.finished:
            yield
            return
        async with self._tools.admission:
            yield

    async def _feeds_of(self, migration: Migration) -> observe.Feeds:
        if self._feeds is not None and self._feeds[0] == migration.uid:
            return self._feeds[1]
        await self._close_feeds()  # another migration of the same name: nothing of the old one counts
        self._token, self._failure = act.Token(), None
        feeds = observe.Feeds(
            directory.Feed(self._tools.agents, migration.uid, self.wake),
            directory.Feed(self._tools.agents, migration.uid, self.wake),
        )
        self._feeds = (migration.uid, feeds)
        return feeds

    async def _close_feeds(self) -> None:
        if self._feeds is not None:
            await self._feeds[1].source.close()
            await self._feeds[1].target.close()
            self._feeds = None
