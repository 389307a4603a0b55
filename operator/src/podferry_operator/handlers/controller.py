"""All migrations of one operator: a loop for each that is unfinished, woken by what kopf sees."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from podferry import errors
from podferry_operator.api import migration as migrations
from podferry_operator.domain import planner
from podferry_operator.handlers import loop

log = logging.getLogger(__name__)


class Controller:
    """Keeps the loops of the unfinished migrations."""

    def __init__(self, tools: loop.Tools) -> None:
        self._tools = tools
        self._loops: dict[tuple[str, str], tuple[loop.Loop, asyncio.Task[None]]] = {}

    def notice(self, body: Mapping[str, Any]) -> None:
        """Take note that a migration exists or has changed. Level-triggered: what exactly happened does not matter."""
        try:
            migration = migrations.parse(body)
        except errors.InvalidInput:
            log.exception("a migration cannot be read")
            return
        key = (migration.namespace, migration.name)
        known = self._loops.get(key)
        if known is not None:
            known[0].wake()
        elif not planner.idle(migration):
            self._spawn(key)

    def _spawn(self, key: tuple[str, str]) -> None:
        migration_loop = loop.Loop(*key, self._tools)
        task = asyncio.create_task(migration_loop.run(), name=f"migration {key[0]}/{key[1]}")
        self._loops[key] = (migration_loop, task)
        task.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: tuple[str, str]) -> None:
        ended, task = self._loops.pop(key)
        if not task.cancelled() and ended.woken:  # something happened between its last look and its end
            self._spawn(key)

    async def stop(self) -> None:
        """End all loops where they stand; what is under way goes on without us."""
        tasks = [task for _, task in self._loops.values()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
