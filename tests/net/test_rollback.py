"""Whatever was begun before Commit can be taken back, by the engine itself or by the next after it was killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.net.peers import engine
from tests.support import capture, move, netns

from podferry.tcp import state
from podferry_agent.connections import find, repair, tcp_info
from podferry_agent.net import gate, namespace

pytestmark = pytest.mark.net


def assert_untouched(scene: move.Scene, listeners: int = 1) -> None:
    """Check that nothing of a migration is left on the source: no table, no repair mode, SO_REUSEADDR as it was."""
    with namespace.NetworkNamespace(scene.source_path) as where:
        table = gate.Gate(where, move.NAME)
        assert not table.remove()
        table.close()
    with find.Duplicator() as duplicator:
        for holder in find.holders(scene.containers(scene.first)):
            duplicate = duplicator.duplicate(holder)
            assert duplicate is not None
            if find.is_tcp(duplicate) and tcp_info.read(duplicate).state == state.State.ESTABLISHED:
                assert not repair.is_on(duplicate)
                assert duplicate.getsockopt(1, 2) == 1, "SO_REUSEADDR was the listener's"
            duplicate.close()


@pytest.mark.parametrize("stage", engine.STAGES)
@pytest.mark.parametrize("mode", ["paced", "duplex"])
def test_undo(tmp_path: Path, mode: str, stage: str) -> None:
    with move.Scene(tmp_path, mode, 5) as scene:
        with capture.Capture(scene.network.client, tmp_path / "capture") as wire:
            scene.run(0.2)
            with scene.backend.open(scene.source_path, move.NAME) as source:
                source.hold()
                scene.first.freeze()
                move.pause(0.3)
                begin = time.time()
                engine.advance(source, scene.first.pid, stage)
                source.undo()
                end = time.time()
                assert source.undo() == []
                scene.first.thaw()
            assert_untouched(scene)
            scene.run(1)
        scene.report()
        found = capture.examine(wire.segments(), (begin, end))
        assert found.clean, found
        if mode == "paced":
            assert found.peer_first == 0


def kill_engine(scene: move.Scene, stage: str, delay: float | None) -> None:
    """Start an engine on the source; kill it when it has reached `stage`, or `delay` seconds after its start."""
    arguments = [str(scene.source_path), str(scene.network.path(scene.network.switch)), str(scene.first.pid), stage]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.net.peers.engine", *arguments], cwd=move.ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if delay is None:
        assert process.stdout.readline() == "there\n"
    else:
        move.pause(delay)
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("stage", engine.STAGES)
def test_recovery_after_the_engine_was_killed(tmp_path: Path, stage: str) -> None:
    with move.Scene(tmp_path, "paced", 20) as scene:
        scene.run(0.2)
        scene.first.freeze()
        kill_engine(scene, stage, None)
        for _ in range(2):
            scene.backend.recover(scene.source_path, move.NAME, [scene.first.pid])
        scene.first.thaw()
        assert_untouched(scene)
        scene.run(1)
        scene.report()


def test_recovery_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    chance = random.Random(7)
    with move.Scene(tmp_path, "duplex", 30) as scene:
        whole = None
        for _ in range(12):
            scene.first.freeze()
            started = time.monotonic()
            kill_engine(scene, "batches", whole and whole * chance.uniform(0.3, 1.0))
            whole = whole or time.monotonic() - started
            scene.backend.recover(scene.source_path, move.NAME, [scene.first.pid])
            scene.first.thaw()
            assert_untouched(scene)
            scene.run(0.1)
        scene.run(2.5)
        scene.report()


@pytest.mark.parametrize("stage", ["prepare", "flush", "cut"])
def test_discard(tmp_path: Path, stage: str) -> None:
    with move.Scene(tmp_path, "paced", 10) as scene:
        with capture.Capture(scene.network.client, tmp_path / "capture") as wire:
            scene.run(0.2)
            with scene.engines() as steps:
                steps.freeze()
                begin = time.time()
                for name, step in (("prepare", steps.prepare), ("flush", steps.flush), ("cut", steps.cut)):
                    step()
                    if name == stage:
                        break
                steps.target.discard()
                assert scene.second is not None
                scene.second.end()
                steps.source.undo()
                end = time.time()
                scene.first.thaw()
            scene.run(1)
        scene.report()
        found = capture.examine(wire.segments(), (begin, end))
        assert found.clean, found


def rebuild_and_die(scene: move.Scene, pid: int, batches: Path) -> None:
    """Rebuild in a process of its own, which is killed before it can resume."""
    child = os.fork()
    if child == 0:
        with scene.backend.open_target(scene.target_path, move.NAME) as target:
            target.lock()
            target.find({"app": [pid]})
            target.rebuild(batches.read_bytes())
            target.verify()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("mode", ["paced", "duplex", "source"])
def test_the_target_recovers(tmp_path: Path, mode: str, *, resumed: bool) -> None:
    batches = tmp_path / "batches"
    with move.Scene(tmp_path, mode, 10) as scene:
        scene.run(0.2)
        with scene.backend.open(scene.source_path, move.NAME) as source:
            source.hold()
            scene.first.freeze()
            second = scene.stand_in()
            engine.advance(source, scene.first.pid, "lock")
            batches.write_bytes(b"".join(source.early_batches()) + b"".join(source.batches()))
            rebuild_and_die(scene, second.pid, batches)
            source.detach()
        scene.first.end()
        for _ in range(2 if resumed else 1):
            with scene.backend.open_target(scene.target_path, move.NAME) as target:
                target.lock()
                assert target.find({"app": [second.pid]}) == 0
                target.recover([batches.read_bytes()])
                target.resume()
        second.thaw()
        with scene.backend.open_target(scene.target_path, move.NAME) as target:
            target.find({"app": [second.pid]})
            target.recover([batches.read_bytes()])
            target.resume()
            audits = target.wake(time.monotonic() + 5)
        assert all(one.answered_seconds for one in audits)
        scene.run(1)
        scene.report()


def test_a_connection_made_in_the_hold_completes(tmp_path: Path) -> None:
    with move.Scene(tmp_path, "echo", 1) as scene:
        scene.run(0.1)
        with scene.engines() as steps:
            steps.freeze()
            late = move.Client(scene.network.client, "echo", 3)
            steps.prepare()
            move.pause(0.3)
            steps.flush()
            steps.cut()
            steps.resume()
            steps.wake()
        late.connected()
        scene.run(0.5)
        scene.report()
        report = late.finish()
        assert report["errors"] == []
        assert min(report["received"]) > 0


def test_a_full_accept_queue_is_seen(tmp_path: Path) -> None:
    with move.Scene(tmp_path, "echo", 1) as scene:
        scene.first.freeze()
        late = move.Client(scene.network.client, "echo", 1)
        with scene.backend.open(scene.source_path, move.NAME) as source:
            move.wait_for("connection in the queue", lambda: not source.accept_queues_empty(time.monotonic()))
            source.hold()
            found = source.inspect(scene.containers(scene.first)).unmovable
            assert {one.reason for one in found} == {"NotAccepted"}
            scene.first.thaw()
            assert source.accept_queues_empty(time.monotonic() + 5)
            source.undo()
        late.connected()
        late.finish()
        scene.report()
        assert netns.POD in found[0].socket
