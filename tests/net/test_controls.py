"""Negative controls: leave one part of the cut out, and the proof that it is needed fails.

Each pair runs the same scene with and without; so the checks of the other tests are known to be able to fail.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import capture, move

from podferry import errors
from podferry_agent.connections import wakeup

pytestmark = pytest.mark.net


def moved(
    folder: Path, mode: str, count: int, *, flush: bool = True, lock: bool = True
) -> tuple[capture.Findings, bool]:
    """Move a scene; return what the wire showed, and whether the clients noticed nothing."""
    with move.Scene(folder, mode, count) as scene:
        with capture.Capture(scene.network.client, folder / "capture") as wire:
            scene.run(0.2)
            with scene.engines() as steps:
                steps.freeze()
                steps.prepare(lock=lock)
                if flush:
                    steps.flush()
                steps.cut(lock=lock)
                # In the dark each client has its turn; without the lock the source acknowledges what the target misses.
                move.pause(0.1 if lock else 1)
                steps.resume()
                steps.wake(1)
            move.pause(1.5)
        report = scene.client.finish()
        untouched = not report["errors"] and report["sent"] == report["received"]
        return capture.examine(wire.segments(), scene.dark), untouched


@pytest.mark.parametrize("flush", [True, False])
def test_without_the_flush_data_is_lost_on_the_way(tmp_path: Path, *, flush: bool) -> None:
    found, untouched = moved(tmp_path, "paced", 100, flush=flush)
    assert untouched
    assert found.clean == flush, found


@pytest.mark.parametrize("lock", [True, False])
def test_without_the_lock_the_source_goes_on_alone(tmp_path: Path, *, lock: bool) -> None:
    try:
        found, untouched = moved(tmp_path, "paced", 20, flush=False, lock=lock)
    except errors.Permanent as error:  # what was read while it moved does not even fit together
        assert (error.reason, lock) == ("RebuildFailed", False)  # noqa: PT017
        return
    assert untouched == lock, found


@pytest.mark.parametrize("wake", [True, False])
def test_without_the_wake_up_peers_wait_for_their_own_timers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, wake: bool
) -> None:
    if not wake:
        monkeypatch.setattr(wakeup.Announcement, "send", lambda *_: None)
        monkeypatch.setattr(wakeup.Announcement, "probe", lambda *_: None)
    with move.Scene(tmp_path, "feed", 10) as scene:
        with capture.Capture(scene.network.client, tmp_path / "capture") as wire:
            scene.run(0.2)
            scene.move(0.2)
            scene.run(1.5)
        scene.report()
        found = capture.examine(wire.segments(), scene.dark)
        assert found.clean
        assert (found.peer_first == 0) == wake, found
