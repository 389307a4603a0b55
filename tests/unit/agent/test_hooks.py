"""The agent's side of the hook against the real podferry-runtime, in front of a runc that is a script."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podferry import errors, ids
from podferry_agent import settings as settings_module
from podferry_agent.process import criu
from podferry_agent.runtime import bundle as bundles
from podferry_agent.runtime import hooks

HOOK = Path(__file__).parents[3] / "node-agent/src/hook"
MIGRATION = "aaaaaaaa-2222-3333-4444-555555555555"
POD = "11111111-2222-3333-4444-555555555555"

RUNC = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
*" restore "*)
  [ -e {broken} ] && exit 3
  while [ -e {slow} ]; do sleep 0.02; done
  while [ $# -gt 1 ]; do [ "$1" = --pid-file ] && echo -n 4711 > "$2"; shift; done;;
esac
"""


class Node:
    """One node: the hook, compiled for a directory of its own, a fake runc, and bundles as containerd makes them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "runc.log"
        self.broken, self.slow = root / "broken", root / "slow"
        runc = root / "runc"
        runc.write_text(RUNC.format(log=self.log, broken=self.broken, slow=self.slow))
        runc.chmod(0o755)
        self.settings = settings_module.Settings(node="n", run_dir=root / "run", state_dir=root / "state", runc=runc)
        build = ["make", "-sC", str(HOOK), f"BUILD={root}", f"RUNC={runc}", f"RUN_DIR={root / 'run'}", "CFLAGS=-O0"]
        subprocess.run(build, check=True)
        self.runtime = root / "podferry-runtime"
        self.sets = {}
        for name in ("one", "two"):
            self.sets[name] = root / "sets" / name
            (self.sets[name] / "criu").mkdir(parents=True)
        self.started: list[subprocess.Popen[str]] = []

    def bundle(self, container_id: str, name: str, kind: str = "container", **annotations: str) -> Path:
        path = self.root / "bundles" / container_id
        (path / "rootfs").mkdir(parents=True)
        document: dict[str, Any] = {
            "annotations": {
                "io.kubernetes.cri.container-type": kind,
                "io.kubernetes.cri.container-name": name,
                "io.kubernetes.cri.sandbox-id": "box",
                "io.kubernetes.cri.sandbox-uid": POD,
                **annotations,
            },
            "linux": {"cgroupsPath": f"/nowhere/{container_id}"},
        }
        (path / "config.json").write_text(json.dumps(document))
        return path

    def migrating(self, container_id: str, name: str, **annotations: str) -> Path:
        return self.bundle(container_id, name, **{ids.MIGRATION_ANNOTATION: MIGRATION, **annotations})

    def call(self, *arguments: str, log: Path | None = None) -> subprocess.Popen[str]:
        options = ["--root", "/r", *(("--log", str(log), "--log-format", "json") if log else ())]
        process = subprocess.Popen(
            [self.runtime, *options, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.started.append(process)
        return process

    def create(self, bundle: Path) -> subprocess.Popen[str]:
        pid_file = bundle / "init.pid"
        return self.call(
            *("create", "--bundle", str(bundle), "--pid-file", str(pid_file), bundle.name), log=bundle / "log.json"
        )

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def end(process: subprocess.Popen[str], code: int) -> str:
    _, told = process.communicate(timeout=20)
    assert process.returncode == code, told
    return told


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def soon() -> float:
    return time.monotonic() + 20


@pytest.fixture(autouse=True)
def no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sets here are empty, and this machine may have no pycriu to change images with; tests/lab has both."""
    monkeypatch.setattr(criu, "unlock_network", lambda _: None)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return Node(tmp_path_factory.mktemp("node"))


@pytest.fixture
def clean(node: Node) -> Iterator[Node]:
    node.log.unlink(missing_ok=True)
    for path in (node.root / "bundles", node.settings.state_dir, node.settings.run_dir):
        subprocess.run(["rm", "-rf", path], check=True)
    yield node
    for path in (node.broken, node.slow):
        path.unlink(missing_ok=True)
    for process in node.started:
        process.kill()
        process.communicate()
    node.started.clear()


@pytest.fixture
def served(clean: Node) -> Iterator[hooks.Hooks]:
    with hooks.Hooks(clean.settings) as hook:
        yield hook


# --- without an agent: everything that is no migration's business


def test_ordinary_commands_are_runcs(clean: Node) -> None:
    bundle = clean.bundle("abc", "app")
    end(clean.create(bundle), 0)
    end(clean.call("start", "abc"), 0)
    end(clean.call("state", "abc"), 0)
    end(clean.call("exec", "--pid-file", "/p", "abc", "create"), 0)
    end(clean.call("delete", "--force", "abc"), 0)
    end(clean.call("--version"), 0)
    assert [line.split()[-2:] for line in clean.calls()] == [
        [str(bundle / "init.pid"), "abc"],
        ["start", "abc"],
        ["state", "abc"],
        ["abc", "create"],
        ["--force", "abc"],
        ["/r", "--version"],
    ]


def test_without_an_agent_a_migrating_container_is_not_started(clean: Node) -> None:
    bundle = clean.migrating("abc", "app")
    told = end(clean.create(bundle), 1)
    assert "cannot reach the node agent" in told
    entry = json.loads((bundle / "log.json").read_text())
    assert entry["level"] == "error"
    assert "cannot reach the node agent" in entry["msg"]
    assert clean.calls() == []


def test_a_restored_container_is_started_already_until_it_is_deleted(clean: Node) -> None:
    marker = clean.settings.run_dir / "restored" / "abc"
    marker.parent.mkdir(parents=True)
    marker.touch()
    end(clean.call("start", "abc"), 0)
    assert clean.calls() == []
    end(clean.call("delete", "abc"), 0)
    assert not marker.exists()
    assert clean.calls() == ["--root /r delete abc"]
    end(clean.call("start", "../restored"), 0)
    assert clean.calls()[-1] == "--root /r start ../restored"


# --- with an agent


def test_a_sandbox_and_a_mere_mention_pass(clean: Node, served: hooks.Hooks) -> None:
    del served
    annotations = {ids.MIGRATION_ANNOTATION: MIGRATION}
    end(clean.create(clean.bundle("box", "", "sandbox", **annotations)), 0)
    end(clean.create(clean.bundle("abc", "app", note=f"see {ids.MIGRATION_ANNOTATION}")), 0)
    assert len(clean.calls()) == 2


def test_two_containers_are_restored_in_turn(clean: Node, served: hooks.Hooks) -> None:
    waits = threading.Event()
    served.expect(MIGRATION, POD, ["one", "two"], waits.set)
    assert not served.waiting(MIGRATION, 0)
    bundle = clean.migrating("id1", "one")
    first = clean.create(bundle)
    assert served.waiting(MIGRATION, 20)
    assert waits.wait(20)
    assert first.poll() is None
    found: dict[str, int] = {}
    restoring = threading.Thread(target=lambda: found.update(served.restore(MIGRATION, clean.sets, soon())))
    restoring.start()
    end(first, 0)
    end(clean.call("start", "id1"), 0)
    end(clean.create(clean.migrating("id2", "two")), 0)
    restoring.join()
    assert found == {"one": 4711, "two": 4711}
    work = clean.settings.run_dir / "work" / ids.object_name(MIGRATION) / "one"
    assert clean.calls()[0] == (
        f"--root /r --log {bundle}/log.json --log-format json restore --detach --no-subreaper --bundle {bundle}"
        f" --pid-file {bundle}/init.pid --image-path {clean.sets['one']}/criu --work-path {work} id1"
    )
    assert len(clean.calls()) == 2, "no start"
    configuration = (work / "criu.conf").read_text().splitlines()
    assert configuration == ["tcp-close", "skip-in-flight", "file-locks", "leave-stopped", "cgroup-root /nowhere/id1"]
    annotations = json.loads((bundle / "config.json").read_text())["annotations"]
    assert annotations[bundles.CRIU_CONFIG] == str(work / "criu.conf")


def restore(node: Node, served: hooks.Hooks) -> None:
    """Restore a pod of one container with id "id1"."""
    served.expect(MIGRATION, POD, ["one"])
    process = node.create(node.migrating("id1", "one"))
    assert served.waiting(MIGRATION, 20)
    served.restore(MIGRATION, node.sets, soon())
    end(process, 0)


def test_nothing_is_started_afresh_between_restore_and_commit(clean: Node, served: hooks.Hooks) -> None:
    restore(clean, served)
    assert "not committed" in end(clean.create(clean.migrating("id2", "one")), 1)
    served.commit(MIGRATION, POD, ["one"])
    end(clean.create(clean.migrating("id3", "one")), 0)
    assert " create " in clean.calls()[-1]


def test_a_restart_long_after_is_ordinary(clean: Node, served: hooks.Hooks) -> None:
    restore(clean, served)
    served.commit(MIGRATION, POD, ["one"])
    served.forget(MIGRATION)
    subprocess.run(["rm", "-r", clean.settings.run_dir / "restored"], check=True)
    served.__exit__(None, None, None)
    with hooks.Hooks(clean.settings) as later:
        later.prune({POD, "another"})
        end(clean.create(clean.migrating("id2", "one")), 0)
        assert " create " in clean.calls()[-1]
        later.prune({"another"})
    assert not list((clean.settings.state_dir / "arrived").iterdir())


def test_a_hook_may_come_before_its_order(clean: Node, served: hooks.Hooks) -> None:
    process = clean.create(clean.migrating("id1", "one"))
    served.expect(MIGRATION, POD, ["one"])
    assert served.waiting(MIGRATION, 20)
    served.abort(MIGRATION, "enough")
    end(process, 1)


def test_an_order_that_never_comes(clean: Node, served: hooks.Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    del served
    monkeypatch.setattr(hooks, "ORDER_SECONDS", 0.05)
    assert "was not admitted" in end(clean.create(clean.migrating("id1", "one")), 1)


def test_the_kubelet_gives_up_and_comes_again(clean: Node, served: hooks.Hooks) -> None:
    served.expect(MIGRATION, POD, ["one"])
    process = clean.create(clean.migrating("id1", "one"))
    assert served.waiting(MIGRATION, 20)
    process.kill()
    until(lambda: not served.waiting(MIGRATION, 0))
    again = clean.create(clean.migrating("id2", "one"))
    assert served.waiting(MIGRATION, 20)
    assert served.restore(MIGRATION, clean.sets, soon()) == {"one": 4711}
    end(again, 0)
    assert [line.split()[-1] for line in clean.calls()] == ["id2"]


def test_a_hook_that_is_not_asked_for(clean: Node, served: hooks.Hooks) -> None:
    served.expect(MIGRATION, POD, ["one", "two"])
    assert "must wait until one is restored" in end(clean.create(clean.migrating("id2", "two")), 1)
    assert "does not bring" in end(clean.create(clean.migrating("id3", "three")), 1)
    other = {"io.kubernetes.cri.sandbox-uid": POD.replace("1", "9")}
    assert "another pod" in end(clean.create(clean.migrating("id4", "one", **other)), 1)
    strange = {"io.kubernetes.cri.sandbox-uid": "../../etc"}
    assert "not a UID" in end(clean.create(clean.migrating("id5", "one", **strange)), 1)


def test_abort_fails_now_and_later_until_forgotten(clean: Node, served: hooks.Hooks) -> None:
    served.abort(MIGRATION, "unknown ids are fine")
    served.expect(MIGRATION, POD, ["one"])
    process = clean.create(clean.migrating("id1", "one"))
    assert served.waiting(MIGRATION, 20)
    served.abort(MIGRATION, 'the "source"\nsays no')
    assert "says no" in end(process, 1)
    entry = json.loads((clean.root / "bundles/id1/log.json").read_text())
    assert 'the "source"\nsays no' in entry["msg"]
    assert "says no" in end(clean.create(clean.migrating("id2", "one")), 1)
    with pytest.raises(errors.Permanent):
        served.restore(MIGRATION, clean.sets, soon())
    served.forget(MIGRATION)
    served.expect(MIGRATION, POD, ["one"])
    clean.create(clean.migrating("id3", "one"))
    assert served.waiting(MIGRATION, 20)


def test_a_failed_restore_says_why_and_is_not_tried_again(clean: Node, served: hooks.Hooks) -> None:
    clean.broken.touch()
    served.expect(MIGRATION, POD, ["one"])
    process = clean.create(clean.migrating("id1", "one"))
    assert served.waiting(MIGRATION, 20)
    work = clean.settings.run_dir / "work" / ids.object_name(MIGRATION) / "one"
    work.mkdir(parents=True)
    (work / "restore.log").write_text("(00.1) fine\n(00.2) Error (criu/x.c:1): it broke\n(00.3) more\n")
    with pytest.raises(errors.Permanent) as caught:
        served.restore(MIGRATION, clean.sets, soon())
    assert caught.value.reason == "RestoreFailed"
    assert "it broke" in caught.value.message
    assert "it broke" in end(process, 1)
    assert "it broke" in json.loads((clean.root / "bundles/id1/log.json").read_text())["msg"]
    assert "was aborted" in end(clean.create(clean.migrating("id2", "one")), 1)


def test_a_restore_that_is_aborted_under_way(clean: Node, served: hooks.Hooks) -> None:
    clean.slow.touch()
    served.expect(MIGRATION, POD, ["one"])
    process = clean.create(clean.migrating("id1", "one"))
    assert served.waiting(MIGRATION, 20)
    raised: list[Exception] = []

    def run() -> None:
        try:
            served.restore(MIGRATION, clean.sets, soon())
        except errors.PodferryError as error:
            raised.append(error)

    restoring = threading.Thread(target=run)
    restoring.start()
    until(lambda: bool(clean.calls()))
    served.abort(MIGRATION, "no more")
    restoring.join(20)
    assert "no more" in str(raised[0])
    assert process.wait(20) == -9
    assert not (clean.root / "bundles/id1/init.pid").exists()


def test_a_restore_that_takes_too_long(clean: Node, served: hooks.Hooks) -> None:
    clean.slow.touch()
    served.expect(MIGRATION, POD, ["one"])
    process = clean.create(clean.migrating("id1", "one"))
    assert served.waiting(MIGRATION, 20)
    with pytest.raises(errors.Transient) as caught:
        served.restore(MIGRATION, clean.sets, time.monotonic() + 0.2)
    assert caught.value.reason == "DeadlineExceeded"
    assert process.wait(20) == -9


def test_a_hook_that_does_not_come(clean: Node, served: hooks.Hooks) -> None:
    served.expect(MIGRATION, POD, ["one"])
    with pytest.raises(errors.Transient) as caught:
        served.restore(MIGRATION, clean.sets, time.monotonic() + 0.05)
    assert caught.value.reason == "DeadlineExceeded"
    with pytest.raises(errors.Permanent):
        served.restore(ids.migration_id(MIGRATION.replace("a", "b")), clean.sets, soon())


def test_an_agent_that_goes_away_fails_the_waiting_hook(clean: Node) -> None:
    with hooks.Hooks(clean.settings) as served:
        served.expect(MIGRATION, POD, ["one"])
        process = clean.create(clean.migrating("id1", "one"))
        assert served.waiting(MIGRATION, 20)
    assert "went away" in end(process, 1)
    assert clean.calls() == []


def test_ordering_twice_keeps_what_stands(clean: Node, served: hooks.Hooks) -> None:
    served.expect(MIGRATION, POD, ["one"])
    process = clean.create(clean.migrating("id1", "one"))
    assert served.waiting(MIGRATION, 20)
    served.expect(MIGRATION, POD, ["one"])
    assert served.waiting(MIGRATION, 0)
    served.restore(MIGRATION, clean.sets, soon())
    end(process, 0)


def test_a_pass_costs_next_to_nothing(clean: Node) -> None:
    """Ordinary commands cost no process more: processor time, since the machine may be busy with other things."""

    def measure(program: Path) -> float:
        before = os.times()
        for _ in range(50):
            subprocess.run([program, "--root", "/r", "state", "abc"], check=True)
        after = os.times()
        return (after.children_user + after.children_system - before.children_user - before.children_system) / 50

    direct, hooked = measure(clean.settings.runc), measure(clean.runtime)
    print(f"a command takes {direct * 1e3:.2f} ms, {hooked * 1e3:.2f} ms through the hook")  # noqa: T201
    assert hooked - direct < 0.005
