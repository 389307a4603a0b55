"""The undo stack: reverse order, goes on after failures, reports them all."""

from __future__ import annotations

from podferry_agent.migration import undo


def test_unwinding_runs_in_reverse_keeps_going_and_reports() -> None:
    ran: list[str] = []
    stack = undo.UndoStack()

    def broken() -> None:
        ran.append("broken")
        raise OSError("no")

    stack.push("first", lambda: ran.append("first"))
    stack.push("second", broken)
    stack.push("third", lambda: ran.append("third"))
    assert stack.unwind() == ["second: no"]
    assert ran == ["third", "broken", "first"]


def test_unwinding_twice_does_nothing_more() -> None:
    ran: list[str] = []
    stack = undo.UndoStack()
    stack.push("once", lambda: ran.append("once"))
    stack.unwind()
    assert stack.unwind() == []
    assert ran == ["once"]
