"""The freezer and the killer on this machine's kernel, in cgroups of their own."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from podferry import errors
from podferry_agent.process import cgroups, freezer, tasks

SPIN = [sys.executable, "-Sc", "import sys\nfor n in range(10**12): sys.stdout.write('.'); sys.stdout.flush()"]


def unified() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return Path(where)
    return None


@pytest.fixture
def groups() -> Iterator[list[Path]]:
    mount = unified()
    if mount is None:
        pytest.skip("needs root and a cgroup2 mount")
    made = [mount / f"podferry-test-{os.getpid()}-{number}" for number in range(2)]
    for group in made:
        group.mkdir()
    yield made
    for group in made:
        tasks.kill(group, time.monotonic() + 10)
        if group.exists():
            group.rmdir()


def start(group: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(SPIN, stdout=subprocess.PIPE)
    (group / "cgroup.procs").write_text(str(process.pid))
    return process


def soon() -> float:
    return time.monotonic() + 10


def silent(process: subprocess.Popen[bytes]) -> bool:
    """Empty the pipe, then tell whether nothing more comes: a running task fills it at once."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    while process.stdout.read(1 << 20):
        pass
    os.set_blocking(process.stdout.fileno(), True)
    return not select.select([process.stdout], [], [], 0.05)[0]


def test_all_at_once_there_and_back(groups: list[Path]) -> None:
    processes = [start(group) for group in groups]
    freezer.freeze(groups, soon())
    assert all(freezer.frozen(group) for group in groups)
    assert [freezer.pids(group) for group in groups] == [[process.pid] for process in processes]
    assert all(silent(process) for process in processes)
    freezer.freeze(groups, soon())
    freezer.thaw(groups)
    freezer.thaw(groups)
    assert not any(freezer.frozen(group) for group in groups)
    for process in processes:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 1)
        process.kill()
        process.wait()


def test_tasks_that_do_not_stop_in_time_are_thawed(groups: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(groups[0])
    answers = iter([[groups[0]], []])  # a task in uninterruptible sleep cannot be had at will
    monkeypatch.setattr(cgroups, "wait", lambda *_: next(answers))
    with pytest.raises(errors.Transient) as caught:
        freezer.freeze([groups[0]], soon())
    assert caught.value.reason == "FreezeTimeout"
    monkeypatch.undo()
    freezer.thaw([groups[0]])
    assert not freezer.frozen(groups[0])
    process.kill()
    process.wait()


def test_a_cgroup_that_is_gone(groups: list[Path]) -> None:
    missing = groups[0] / "nothing"
    with pytest.raises(errors.Permanent) as caught:
        freezer.freeze([groups[0], missing], soon())
    assert caught.value.reason == "ContainerGone"
    assert not freezer.frozen(groups[0])
    assert freezer.pids(missing) == []
    freezer.thaw([missing])
    tasks.kill(missing, soon())


def test_killing_what_is_stopped_or_frozen(groups: list[Path]) -> None:
    stopped, frozen = (start(group) for group in groups)
    os.kill(stopped.pid, 19)
    freezer.freeze(groups[1:], soon())
    for group in groups:
        tasks.kill(group, soon())
        tasks.kill(group, soon())
    assert stopped.wait() == frozen.wait() == -9
    assert freezer.pids(groups[0]) == []


def test_continuing_what_is_stopped(groups: list[Path]) -> None:
    process = start(groups[0])
    os.kill(process.pid, 19)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    tasks.resume(groups)
    tasks.resume(groups)
    os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WNOWAIT)
    process.kill()
    process.wait()
