"""Connections move between two namespaces; neither end notices, and the wire shows nothing but a pause."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import capture, move, netns

pytestmark = pytest.mark.net


@pytest.mark.parametrize("count", [1, 100, 1000])
def test_echo(tmp_path: Path, count: int) -> None:
    with move.Scene(tmp_path, "echo", count) as scene:
        scene.run(0.3)
        audits = scene.move()
        scene.run(1)
        scene.report()
        assert len(audits) == count
        assert all(one.fate == "kept" and one.answered_seconds for one in audits)


@pytest.mark.parametrize("mode", ["echo", "paced", "source", "sink", "deaf", "duplex"])
@pytest.mark.parametrize(("count", "address"), [(1, netns.POD), (10, netns.POD), (3, netns.POD6)])
def test_the_wire_shows_only_a_pause(tmp_path: Path, mode: str, count: int, address: str) -> None:
    with move.Scene(tmp_path, mode, count, address) as scene:
        with capture.Capture(scene.network.client, tmp_path / "capture") as wire:
            scene.run(0.2)
            scene.move()
            scene.run(1)
        scene.report()
        found = capture.examine(wire.segments(), scene.dark)
        assert found.clean, found
        assert found.zero_windows >= count
        if mode in {"echo", "paced"}:
            assert found.zero_windows == count, "each window was closed once"
            assert found.peer_first == 0, "each window was opened before its client had to ask"


def test_a_pod_moves_with_nothing_connected(tmp_path: Path) -> None:
    with move.Scene(tmp_path, "echo", 0) as scene:
        assert scene.move(0.1) == []
        late = move.Client(scene.network.client, "echo", 1)
        late.connected()
        assert late.finish()["errors"] == []
