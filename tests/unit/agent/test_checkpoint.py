"""What is around CRIU when a container is saved; runc is a script here, cgroups and overlays are real (root)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from podferry import errors
from podferry_agent import settings as settings_module
from podferry_agent.process import checkpoint, criu, freezer, tasks
from podferry_agent.runtime import bundle as bundles
from podferry_agent.runtime import pods

UID = "11111111-2222-3333-4444-555555555555"
RUNC = """#!/bin/sh
echo "$@" > {root}/arguments
cat /proc/self/cgroup > {root}/cgroup
iptables-restore -w --noflush && ip6tables-restore -w --noflush || exit 9
while [ $# -gt 1 ]; do
  [ "$1" = --root ] && cp "$2"/*/state.json {root}/state-given
  [ "$1" = --image-path ] && images="$2"
  [ "$1" = --work-path ] && work="$2"
  shift
done
cp "$work/criu.conf" {root}/criu.conf
for name in pages-1 ipcns-var-1 ipcns-shm-1 ipcns-sem-1; do echo x > "$images/$name.img"; done
[ -e {root}/broken ] || exit 0
printf '(00.1) fine\\n(00.2) Error (criu/a.c:1): no way\\n(00.3) Unlock\\n' > "$work/dump.log"
exit 1
"""


def unified() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return Path(where)
    pytest.skip("needs root and a cgroup2 mount")


class Machine:
    """A frozen container with an overlay as root, and a volume."""

    def __init__(self, root: Path, mount: Path) -> None:
        self.root = root
        (root / "runc").write_text(RUNC.format(root=root))
        (root / "runc").chmod(0o755)
        self.settings = settings_module.Settings(node="n", runc=root / "runc", runc_root=root / "states")
        self.cgroup = mount / f"podferry-test-{os.getpid()}"
        self.cgroup.mkdir()
        self.process = subprocess.Popen([sys.executable, "-Sc", "import time; time.sleep(1000)"])
        (self.cgroup / "cgroup.procs").write_text(str(self.process.pid))
        self.rootfs = root / "bundle/rootfs"
        for folder in ("lower", "upper", "work", "volume", "states/id1", "bundle/rootfs"):
            (root / folder).mkdir(parents=True)
        options = f"lowerdir={root / 'lower'},upperdir={root / 'upper'},workdir={root / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.rootfs], check=True)
        (self.rootfs / "changed").write_text("changed")
        (root / "volume/file").write_text("file")
        state = {"config": {"labels": ["bundle=/b", "org.criu.config=/users.conf"]}, "id": "id1"}
        (root / "states/id1/state.json").write_text(json.dumps(state))
        self.one, self.two = self.container("one"), self.container("two")
        self.pod = pods.Pod(UID, "shop", "web", "box", Path("/proc/1/ns/net"), (self.one, self.two))

    def container(self, name: str) -> pods.Container:
        bundle = bundles.Bundle(
            path=self.root / "bundle",
            sandbox=False,
            container=name,
            pod_uid=UID,
            sandbox_id="box",
            migration_id="",
            cgroups_path="/x",
            netns=None,
            carried={"volume-data": self.root / "volume"},
        )
        return pods.Container(name, "id1", self.process.pid, self.cgroup, bundle)

    def close(self) -> None:
        subprocess.run(["umount", self.rootfs], check=True)
        tasks.kill(self.cgroup, soon())
        self.process.wait()
        self.cgroup.rmdir()


def soon() -> float:
    return time.monotonic() + 20


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    mount = unified()
    survivors = mount / f"podferry-test-{os.getpid()}-survivors"
    monkeypatch.setattr(checkpoint, "SURVIVORS", survivors)
    monkeypatch.setattr(criu, "version", lambda: (3, 17, 1))
    made = Machine(tmp_path, mount)
    freezer.freeze([made.cgroup], soon())
    yield made
    made.close()
    if survivors.exists():
        survivors.rmdir()


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_an_image_set(machine: Machine, tmp_path: Path) -> None:
    saved = checkpoint.Checkpointer(machine.settings).save(
        machine.pod, machine.one, tmp_path / "sets/one", deadline=soon()
    )
    ipc = ["criu/ipcns-sem-1.img", "criu/ipcns-shm-1.img", "criu/ipcns-var-1.img"]
    assert names(saved.directory) == [*ipc, "criu/pages-1.img", "files/rootfs.tar", "files/volume-data.tar"]
    assert saved.directory.stat().st_mode & 0o777 == 0o700
    assert freezer.frozen(machine.cgroup)
    arguments = (tmp_path / "arguments").read_text()
    assert " checkpoint --leave-running " in arguments
    assert str(tmp_path / "states") not in arguments
    given = json.loads((tmp_path / "state-given").read_text())
    assert given["config"]["labels"] == ["bundle=/b", f"org.criu.config={tmp_path}/sets/one.work/criu.conf"]
    assert (tmp_path / "criu.conf").read_text().splitlines() == list(checkpoint.OPTIONS)
    assert "survivors" in (tmp_path / "cgroup").read_text()


def test_a_later_container_leaves_out_what_an_earlier_one_brings(machine: Machine, tmp_path: Path) -> None:
    saved = checkpoint.Checkpointer(machine.settings).save(
        machine.pod, machine.two, tmp_path / "sets/two", deadline=soon()
    )
    assert names(saved.directory) == ["criu/ipcns-var-1.img", "criu/pages-1.img", "files/rootfs.tar"]


def test_a_newer_criu_is_told_to_leave_the_network_alone(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(criu, "version", lambda: (4, 1, 1))
    checkpoint.Checkpointer(machine.settings).save(machine.pod, machine.one, tmp_path / "sets/one", deadline=soon())
    assert "network-lock skip" in (tmp_path / "criu.conf").read_text()


def test_a_dump_that_fails_says_why(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(errors.Permanent) as caught:
        checkpoint.Checkpointer(machine.settings).save(machine.pod, machine.one, tmp_path / "sets/one", deadline=soon())
    assert caught.value.reason == "CheckpointFailed"
    assert caught.value.message == "one: (00.2) Error (criu/a.c:1): no way"
    assert freezer.frozen(machine.cgroup)


def test_too_late_is_not_saved(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(errors.Transient) as caught:
        checkpoint.Checkpointer(machine.settings).save(machine.pod, machine.one, tmp_path / "sets/one", deadline=0.0)
    assert caught.value.reason == "DeadlineExceeded"


def test_only_what_is_frozen_is_saved(machine: Machine, tmp_path: Path) -> None:
    freezer.thaw([machine.cgroup])
    with pytest.raises(errors.Permanent) as caught:
        checkpoint.Checkpointer(machine.settings).save(machine.pod, machine.one, tmp_path / "sets/one", deadline=soon())
    assert caught.value.reason == "NotFrozen"


def test_system_v_memory_goes_with_who_has_it_attached(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    containers = [machine.one, machine.two]
    assert checkpoint.ipc_owner(containers) is machine.one
    monkeypatch.setattr(freezer, "pids", lambda cgroup: {"a": [1], "b": [2], "c": [3]}[cgroup.name])
    attached = {2}
    monkeypatch.setattr(checkpoint, "_attaches", lambda pid: pid in attached)
    first, second, third = (
        pods.Container(name, name, 1, Path("/") / name, machine.one.bundle) for name in ("a", "b", "c")
    )
    assert checkpoint.ipc_owner([first, second, third]) is second
    attached.add(3)
    with pytest.raises(errors.Permanent) as caught:
        checkpoint.ipc_owner([first, second, third])
    assert caught.value.reason == "SharedMemoryNotMovable"
    assert "b and c" in caught.value.message


def test_what_a_criu_log_tells(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    assert criu.log_tail(log) == ""
    log.write_text("".join(f"(00.{number}) line\n" for number in range(100)))
    assert criu.log_tail(log).splitlines()[-1] == "(00.99) line"
    assert len(criu.log_tail(log).splitlines()) == 12
    log.write_bytes(b"(00.1) Error (a): \xff\n" + b"(00.2) more\n" * 50)
    assert criu.log_tail(log) == "(00.1) Error (a): \ufffd"
