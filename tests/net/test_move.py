"""Connections move between two namespaces; neither end notices, and the wire shows nothing but a pause."""

from __future__ import annotations

import sys
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


MODES = ["echo", "paced", "source", "sink", "deaf", "duplex"]
MAPPED = f"::ffff:{netns.POD}"


@pytest.mark.parametrize(
    ("mode", "count", "address"),
    [(mode, count, netns.POD) for mode in MODES for count in (1, 10)]
    + [(mode, 3, address) for mode in ("paced", "duplex") for address in (netns.POD6, MAPPED)],
)
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


@pytest.mark.parametrize("mode", ["paced", "duplex"])
def test_there_and_back_and_there(tmp_path: Path, mode: str) -> None:
    with move.Scene(tmp_path, mode, 5) as scene:
        for hop in range(3):
            if hop:
                scene.turn_back()
            with capture.Capture(scene.network.client, tmp_path / f"capture{hop}") as wire:
                scene.run(0.2)
                scene.move(0.2)
                scene.run(0.5)
            found = capture.examine(wire.segments(), scene.dark)
            assert found.clean, found
        scene.report()


def test_nothing_is_started_in_the_cut(tmp_path: Path) -> None:
    started: list[str] = []
    watching = False

    def hook(event: str, _: object) -> None:
        if watching and event in {"subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.system"}:
            started.append(event)

    sys.addaudithook(hook)
    with move.Scene(tmp_path, "echo", 3) as scene, scene.engines() as steps:
        steps.freeze()
        scene.stand_in()
        watching = True
        steps.prepare()
        steps.flush()
        steps.cut()
        steps.target.resume()
        watching = False
        assert started == []


def test_a_pod_moves_with_nothing_connected(tmp_path: Path) -> None:
    with move.Scene(tmp_path, "echo", 0) as scene:
        assert scene.move(0.1) == []
        late = move.Client(scene.network.client, "echo", 1)
        late.connected()
        assert late.finish()["errors"] == []
