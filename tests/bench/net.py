"""The connection engine between network namespaces: real TCP, no CRIU, one machine.

dead_ms.repair.N             connections dark: from the source's lock until the target has resumed, N connections
flush_ms.repair.N            zero window until nothing is in flight, before that
per_connection_us.repair.N   what one more connection adds to it: (dead(N) - dead(1)) / (N - 1); for N = 1, dead(1)
resume_delay_ms.F            a peer that sends without end: from the resume to its first new data; frozen for F seconds
resume_delay_ms.drop.F       the same with its packets dropped for the whole freeze, as other systems do
resume_delay_ms.nowake.F     the same with a zero window for the whole freeze, and no window update at the end
goodput_after_over_before    bytes in the second after a resume ÷ in the second before the freeze
net.gap_over_freeze.N        the longest pause of any of N paced clients ÷ the time that the process stood still
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from tests.bench import results, wire
from tests.support import capture, move

from podferry_agent.connections import wakeup

COUNTS = {1: 10, 10: 10, 100: 6, 1000: 3}
"""Connections → hops measured."""

FREEZES = {0.1: 3, 1.0: 3, 5.0: 1, 10.0: 1}
"""Seconds → repetitions."""

AFTER_SECONDS = 6.0
"""A capture goes on for so long after the resume: longer than the tail of ten seconds' dropping."""

BEFORE_SECONDS = 1.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Resumed:
    """One freeze of a pod that a peer sends to; times are CLOCK_REALTIME seconds."""

    stream: wire.Stream
    frozen: float
    resumed: float

    @property
    def delay(self) -> float:
        """Seconds from the resume until the peer's stream goes on."""
        return self.stream.progress_after(self.resumed)

    @property
    def goodput(self) -> float:
        """Bytes in the second after, over those in the second before."""
        return self.stream.sent(self.resumed, self.resumed + 1) / self.stream.sent(self.frozen - 1, self.frozen)


def run(say: Say, *, quick: bool = False) -> dict[str, float]:
    """Measure everything; `quick` leaves out what takes long. `say` is told what is being done."""
    figures: dict[str, float] = {}
    for count, hops in COUNTS.items():
        if quick and count > 100:
            continue
        say(f"{count} connections, {hops} hops")
        figures |= cut(count, hops)
        first, all_of_them = figures["dead_ms.repair.1"], figures[f"dead_ms.repair.{count}"]
        each = (all_of_them - first) / (count - 1) if count > 1 else first
        figures[f"per_connection_us.repair.{count}"] = 1000 * each
    for seconds, repetitions in FREEZES.items():
        if quick and seconds > 1:
            continue
        for name, way in WAYS.items():
            say(f"frozen for {seconds:g} s, {name}")
            delays = [1000 * way("feed", seconds).delay for _ in range(repetitions)]
            figures |= results.spread(delay_key(name, seconds), delays)
    say("goodput of a bulk transfer")
    figures |= results.spread("goodput_after_over_before", [flushed("sink", 1.0).goodput for _ in range(3)])
    say("the clients' gap")
    figures |= results.spread("net.gap_over_freeze.10", [gap(10) for _ in range(3)])
    return figures


def delay_key(name: str, seconds: float) -> str:
    """Return the key of a resume delay: `name` as in WAYS, ours without."""
    return ".".join(["resume_delay_ms", *([] if name == "flush" else [name]), f"{seconds:g}"])


def cut(count: int, hops: int) -> dict[str, float]:
    """Move `count` echoing connections to and fro."""
    dead, flush = [], []
    with _scene("echo", count) as scene:
        for hop in range(hops):
            if hop:
                scene.turn_back()
            scene.run(0.3)
            scene.move(0.1)
            marks = scene.timings.marks
            dead.append(1000 * sum(marks[step] for step in ("lock", "rebuild", "verify", "resume")))
            flush.append(1000 * (marks["flush"] + marks["drain"]))
        scene.report()
    return results.spread(f"dead_ms.repair.{count}", dead) | results.spread(f"flush_ms.repair.{count}", flush)


def flushed(mode: str, seconds: float) -> Resumed:
    """Freeze a receiver the way podferry does: its sockets live on, are flushed last, and say so at the resume."""

    def act(steps: move.Move) -> None:
        steps.freeze()
        move.pause(seconds)
        steps.prepare()
        steps.flush()
        steps.cut()

    return _freeze(mode, act)


def dropped(mode: str, seconds: float) -> Resumed:
    """Freeze a receiver behind a lock that drops everything from beginning to end; nobody tells the peer."""

    def act(steps: move.Move) -> None:
        steps.source.lock()
        steps.freeze()
        steps.source.lock()  # what holds new connections has opened it
        move.pause(seconds)
        steps.prepare()
        steps.cut()

    return _freeze(mode, act, silent=True)


def unannounced(mode: str, seconds: float) -> Resumed:
    """Freeze a receiver behind a zero window from beginning to end; nobody tells the peer that it is open again."""

    def act(steps: move.Move) -> None:
        steps.freeze()
        steps.prepare()
        steps.flush()
        move.pause(seconds)
        steps.cut()

    return _freeze(mode, act, silent=True)


WAYS: dict[str, Callable[[str, float], Resumed]] = {"flush": flushed, "drop": dropped, "nowake": unannounced}


def gap(count: int, seconds: float = 1.0) -> float:
    """Return the longest wait for an answer of any of `count` clients, over the time that the process stood still."""
    with _scene("echo", count) as scene:
        scene.stand_in()
        scene.run(1)
        with scene.engines() as steps:
            steps.hold()
            begin = time.monotonic()
            scene.first.freeze()
            move.pause(seconds)
            steps.prepare()
            steps.flush()
            steps.cut()
            steps.resume()
            frozen = time.monotonic() - begin
            steps.wake()
        scene.run(1)
        return float(scene.report()["pause"]) / frozen


def _freeze(mode: str, act: Callable[[move.Move], None], *, silent: bool = False) -> Resumed:
    with _scene(mode, 1) as scene, tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as quiet:
        if silent:
            for name in ("send", "probe"):
                quiet.enter_context(mock.patch.object(wakeup.Announcement, name, return_value=None))
        scene.stand_in()
        with capture.Capture(scene.network.client, Path(folder) / "capture") as wired:
            scene.run(BEFORE_SECONDS)
            with scene.engines() as steps:
                frozen = time.time()
                act(steps)
                resumed = time.time()
                steps.resume()
                steps.wake(0.5)
            move.pause(AFTER_SECONDS)
        scene.client.kill()
        return Resumed(wire.Stream(list(wired.segments())), frozen, resumed)


@contextlib.contextmanager
def _scene(mode: str, count: int) -> Iterator[move.Scene]:
    with tempfile.TemporaryDirectory() as folder, move.Scene(Path(folder), mode, count) as scene:
        yield scene
