"""The undo stack: every do pushes its undo first, unwinding runs them in reverse and keeps going.

Undo actions are idempotent and must not assume that their do ever ran to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class UndoStack:
    """Actions that take the world back to where it was, last done first undone."""

    def __init__(self) -> None:
        self._actions: list[tuple[str, Callable[[], object]]] = []

    def push(self, what: str, action: Callable[[], object]) -> None:
        """Remember `action`; call this *before* doing what it undoes. `what` reads as an order: "thaw the
        containers".
        """
        self._actions.append((what, action))

    def unwind(self) -> list[str]:
        """Run all actions in reverse and forget them; return what failed, as "what: why", empty when all went well."""
        failures = []
        while self._actions:
            what, action = self._actions.pop()
            try:
                action()
            except Exception as error:
                log.exception("undo failed: %s", what)
                failures.append(f"{what}: {error}")
        return failures
