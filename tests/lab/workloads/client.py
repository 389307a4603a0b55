"""A client that notices everything: N verified connections, their gaps, and a verdict; library and command.

    python -m tests.lab.workloads.client HOST[:PORT] --mode echo --connections 4 --seconds 10 --result FILE

Exit status 0 says that nothing at all went wrong, 1 that something did (the result says what), 2 wrong arguments.
SIGTERM and SIGINT end the run properly: outstanding answers are awaited and both ends compared.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.workloads import driver, framed, frames, resp, results

REDIS = "redis"
MODES = (frames.ECHO, frames.SINK, frames.SOURCE, frames.DUPLEX, REDIS)
GLANCE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client does."""

    address: tuple[str, int]
    mode: str = frames.ECHO
    connections: int = 1
    pace: float = 0.02
    """Seconds between the messages of one connection; the bulk modes go as fast as they can and ignore it."""
    size: int = 200
    """Payload bytes of an echo, or of a Redis value."""
    window: int = 8
    """Messages of one connection in flight at most."""
    drain: float = 60.0
    """Seconds that the end of the run may take before a connection counts as stalled."""
    first_stream: int = field(default_factory=lambda: int.from_bytes(os.urandom(4), "big") >> 1)
    """Number of the first stream; the others follow. Random, so that clients of one service do not collide."""


def run(
    settings: Settings, stop: Callable[[], bool], progress: Callable[[results.Progress], None] | None = None
) -> results.Result:
    """Connect, talk until `stop` returns true, end properly, compare both ends.

    Raises:
        OSError: the service could not be reached at the beginning; what goes wrong later stands in the result.
    """
    pace = settings.pace if settings.mode in (frames.ECHO, REDIS) else 0.0
    plan = driver.Plan(settings.address, pace, stop, settings.drain, progress)
    streams = range(settings.first_stream, settings.first_stream + settings.connections)
    started = time.time()
    if settings.mode == REDIS:
        return _run_redis(settings, plan, [resp.Pipelined(n, settings.size, settings.window) for n in streams], started)
    before = framed.stat(settings.address)["instance"]
    talks = [framed.Framed(settings.mode, n, settings.size, settings.window) for n in streams]
    drive = driver.Driver(plan, talks)
    result = results.Result(settings.mode, started, 0.0, drive.run(), drive.series, before)
    try:
        report = framed.stat(settings.address)
    except OSError as error:
        result.problems.append(f"the service does not answer at the end: {error}")
    else:
        framed.compare(talks, result.connections, report)
        if report["instance"] != before:
            result.problems.append("another process answers at the end than at the beginning")
        if not report["ballast"]["intact"]:
            result.problems.append("the service's memory is not what it was")
    result.finished = time.time()
    return result


def _run_redis(settings: Settings, plan: driver.Plan, talks: list[resp.Pipelined], started: float) -> results.Result:
    before = resp.run_id(settings.address)
    drive = driver.Driver(plan, talks)
    result = results.Result(settings.mode, started, 0.0, drive.run(), drive.series, before)
    try:
        for talk, record in zip(talks, result.connections, strict=True):
            if record.failure is None:
                resp.read_back(settings.address, talk)
                record.compared = talk.verified
        if resp.run_id(settings.address) != before:
            result.problems.append("another process answers at the end than at the beginning")
    except frames.Corrupt as finding:
        result.problems.append(f"memory read back at the end: {finding}")
    except OSError as error:
        result.problems.append(f"the server does not answer at the end: {error}")
    result.finished = time.time()
    return result


def write(path: Path, text: str) -> None:
    """Replace `path` in one move, so that a reader never sees half of it."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    draft.replace(path)


def main(arguments: list[str]) -> int:
    """Run as a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    host, _, port = options.address.partition(":")
    default = resp.PORT if options.mode == REDIS else frames.PORT
    settings = Settings(
        (host, int(port or default)), options.mode, options.connections, options.pace, options.size, options.window,
        options.drain,
    )  # fmt: skip
    signalled: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signalled.append(number))
    ends = time.time() + options.seconds
    glanced = 0.0

    def progress(now: results.Progress) -> None:
        nonlocal glanced
        if options.progress is not None and time.time() - glanced >= GLANCE_SECONDS:
            glanced = time.time()
            write(options.progress, now.dumps())

    try:
        result = run(settings, lambda: bool(signalled) or time.time() >= ends, progress)
    except OSError as error:
        sys.stderr.write(f"cannot reach {options.address}: {error}\n")
        return 1
    if options.result is not None:
        write(options.result, result.dumps())
    sys.stdout.write(result.summary() + "\n")
    return 0 if result.clean else 1


def _parser() -> argparse.ArgumentParser:
    defaults = Settings(("", 0))
    parser = argparse.ArgumentParser(prog="client", description="Verified traffic against the lab's services.")
    parser.add_argument("address", metavar="HOST[:PORT]")
    parser.add_argument("--mode", choices=MODES, default=defaults.mode)
    parser.add_argument("--connections", type=int, default=defaults.connections)
    parser.add_argument("--pace", type=float, default=defaults.pace, help="seconds between messages of a connection")
    parser.add_argument("--size", type=int, default=defaults.size, help="bytes of an echo's or a value's payload")
    parser.add_argument("--window", type=int, default=defaults.window, help="messages in flight on a connection")
    parser.add_argument("--drain", type=float, default=defaults.drain, help="seconds the end may take")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--result", type=Path, help="write the result here as JSON")
    parser.add_argument("--progress", type=Path, help="keep a glance at the run here as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
