"""Connections move between two namespaces and neither end notices."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.support import move

pytestmark = pytest.mark.net


def run(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    move.wait_for("traffic to flow", lambda: time.monotonic() > deadline, seconds + 1)


@pytest.mark.parametrize("count", [1, 100, 1000])
def test_echo(tmp_path: Path, count: int) -> None:
    with move.Scene(tmp_path, "echo", count) as scene:
        run(0.5)
        scene.move()
        run(1.5)
        report = scene.client.finish()
        print(count, scene.timings, f"pause {report['pause']:.3f}")  # noqa: T201
        assert report["errors"] == []
        assert scene.count == count
        assert report["silent"] < 1
        assert report["sent"] == report["received"]
        assert all(one.answered_seconds for one in scene.audits)
