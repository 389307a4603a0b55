"""What tests/lab/test_restore.py runs on the nodes: `python3 -m tests.lab.restoring COMMAND …`; it answers in JSON.

The commands use the agent's own modules as a migration would, without the rest of the agent.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.restoring import cri

from podferry import errors
from podferry.wire import agent_pb2
from podferry_agent import settings as settings_module
from podferry_agent.process import checkpoint, freezer, images, tasks
from podferry_agent.runtime import hooks, pods

SETTINGS = settings_module.Settings(node="lab")
SECONDS = 150.0
PORT = 9000

_LOCKED = """
import fcntl
file = open("/data/one")
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(file.read(), "is locked")
"""


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for function in (start, save, thaw, remove, target, afterwards, ordinary):
        command = commands.add_parser(function.__name__)
        command.set_defaults(do=function)
        for option in ("uid", "migration", "words", "send", "damage", "handler"):
            command.add_argument(f"--{option}", default="")
    arguments = parser.parse_args()
    do: Callable[[argparse.Namespace], Any] = arguments.do
    sys.stdout.write(json.dumps(do(arguments)) + "\n")


def start(arguments: argparse.Namespace) -> Any:
    """Start the pod with two containers under a runtime handler; wait until both count."""
    pod, runtime = cri.Pod(arguments.uid, arguments.handler), cri.Runtime()
    sandbox = runtime.sandbox(pod)
    for name in cri.CONTAINERS:
        runtime.container(pod, sandbox, name, *arguments.words.split())
    for name in cri.CONTAINERS:
        _lines(pod.log(name), 5)
    return {"address": runtime.address(sandbox)}


def save(arguments: argparse.Namespace) -> Any:
    """Freeze and save the pod; with --send, wait for the target first, send it there, and return its answer too."""
    link = _connect(arguments.send) if arguments.send else None
    keeper = checkpoint.Checkpointer(SETTINGS)
    pod = pods.PodView(SETTINGS).find(arguments.uid).ordered(cri.CONTAINERS)
    cgroups = [container.cgroup for container in pod.containers]
    directory = SETTINGS.run_dir / "images" / arguments.uid
    images.wipe(directory)
    report: dict[str, Any] = {"sockets": _sockets(cgroups), "began": time.time()}
    freezer.freeze(cgroups, _soon())
    try:
        for container in pod.containers:
            saved = keeper.save(pod, container, directory / container.name, deadline=_soon())
            report[container.name] = {"memory": saved.memory_bytes, "files": saved.file_bytes, "seconds": saved.seconds}
    except errors.PodferryError as error:
        report["error"] = str(error)
    report["ended"] = time.time()
    report["frozen"] = [freezer.frozen(cgroup) for cgroup in cgroups]
    report["markers"] = [str(path) for path in SETTINGS.runc_root.glob("*/checkpoint")]
    report["last"] = {name: _last(cri.Pod(arguments.uid, "").log(name)) for name in cri.CONTAINERS}
    if link is not None:
        for name in cri.CONTAINERS:
            _send_set(link, name, directory / name)
        report["target"] = json.loads(link.makefile().readline())
    images.wipe(directory)
    return report


def thaw(arguments: argparse.Namespace) -> Any:
    """Thaw the pod; return what each container says next."""
    pod = pods.PodView(SETTINGS).find(arguments.uid)
    counts = {name: len(_read(cri.Pod(arguments.uid, "").log(name))) for name in cri.CONTAINERS}
    freezer.thaw([container.cgroup for container in pod.containers])
    return {name: _lines(cri.Pod(arguments.uid, "").log(name), counts[name] + 3)[counts[name]] for name in counts}


def remove(arguments: argparse.Namespace) -> Any:
    """Remove pods, frozen ones too."""
    for uid in arguments.uid.split(","):
        cri.Runtime().remove(uid)
    return {}


def target(arguments: argparse.Namespace) -> Any:
    """Be the target: pod created, hook waiting, images received, restored, resumed. Answers also over the link."""
    pod, runtime = cri.Pod(arguments.uid, "podferry", arguments.migration), cri.Runtime()
    directory = SETTINGS.run_dir / "images" / arguments.uid
    view, checkpointer = pods.PodView(SETTINGS), checkpoint.Checkpointer(SETTINGS)
    del checkpointer  # loads pycriu as an agent does that has been running for long
    made: dict[str, str] = {}
    with hooks.Hooks(SETTINGS) as hook, socket.create_server(("", PORT)) as server:
        hook.expect(arguments.migration, arguments.uid, cri.CONTAINERS)
        sandbox = runtime.sandbox(pod)
        kubelet = threading.Thread(target=_create_all, args=(runtime, pod, sandbox, made))
        kubelet.start()
        if not hook.waiting(arguments.migration, SECONDS):
            raise TimeoutError("no hook came")
        link = _accept(server)
        for name in cri.CONTAINERS:
            _receive_set(link, directory / name)
        if arguments.damage:
            next((directory / "one/criu").glob(arguments.damage)).write_bytes(b"damaged")
        report: dict[str, Any] = {"made": made}
        began = time.monotonic()
        try:
            report["pids"] = hook.restore(
                arguments.migration, {name: directory / name for name in cri.CONTAINERS}, _soon()
            )
        except errors.PodferryError as error:
            report["error"] = str(error)
            hook.abort(arguments.migration, "the restore failed")
            kubelet.join()
            _create_all(runtime, pod, sandbox, made, attempt=1)
        else:
            kubelet.join()
            report["seconds"] = time.monotonic() - began
            cgroups = [container.cgroup for container in view.find(arguments.uid).ordered(cri.CONTAINERS).containers]
            report["states"] = [_state(pid) for cgroup in cgroups for pid in freezer.pids(cgroup)]
            report["homes"] = [str(cgroup) for cgroup in cgroups]
            report["sockets"] = _sockets(cgroups)
            tasks.resume(cgroups)
            report["next"] = {name: _lines(pod.log(name), 3)[0] for name in cri.CONTAINERS}
            hook.commit(arguments.migration, arguments.uid, cri.CONTAINERS)
            hook.forget(arguments.migration)
        images.wipe(directory)
        link.sendall(json.dumps(report).encode() + b"\n")
    return report


def afterwards(arguments: argparse.Namespace) -> Any:
    """Treat the restored pod as an ordinary one, under an agent that has been restarted since."""
    pod, runtime = cri.Pod(arguments.uid, "podferry", arguments.migration), cri.Runtime()
    one, two = (_container_id(arguments.uid, name) for name in cri.CONTAINERS)
    report: dict[str, Any] = {"exec": runtime.execute(one, "/usr/bin/python3", "-c", _LOCKED)}
    with hooks.Hooks(SETTINGS):
        report["stopped"] = runtime.stop(one)
        os.kill(pods.PodView(SETTINGS).find(arguments.uid).containers[0].pid, 9)
        report["killed"] = runtime.exited(two)
        for container in (one, two):
            runtime.remove_container(container)
        runtime.container(pod, runtime.sandbox_of(arguments.uid), "one", attempt=1)
        report["again"] = _lines(pod.log("one", 1), 2)[0]
    report["markers"] = len(list((SETTINGS.run_dir / "restored").iterdir()))
    return report


def ordinary(arguments: argparse.Namespace) -> Any:
    """Run a short container of an ordinary pod under both runtimes; measure a command of both, median seconds."""
    runtime = cri.Runtime()
    report: dict[str, Any] = {}
    for handler in ("runc", "podferry"):
        pod = cri.Pod(arguments.uid, handler)
        made = runtime.container(pod, runtime.sandbox(pod), "one", command=("/bin/sh", "-c", "echo said; exit 3"))
        report[handler] = {"code": runtime.exited(made), "said": _read(pod.log("one"))}
        runtime.remove(arguments.uid)
        pod.log("one").unlink()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(7):
        for program, seconds in zip((str(SETTINGS.runc), "podferry-runtime"), taken, strict=True):
            began = time.monotonic()
            subprocess.run(
                [program, "--root", "/run/no-such-root", "state", "nothing"], capture_output=True, check=False
            )
            seconds.append(time.monotonic() - began)
    report["seconds"] = [statistics.median(seconds) for seconds in taken]
    return report


def _create_all(runtime: cri.Runtime, pod: cri.Pod, sandbox: str, made: dict[str, str], attempt: int = 0) -> None:
    for name in cri.CONTAINERS:
        try:
            made[name] = runtime.container(pod, sandbox, name, attempt=attempt)
        except Exception as error:
            made[name] = f"{type(error).__name__}: {error}"


def _container_id(uid: str, name: str) -> str:
    return next(item.id for item in pods.PodView(SETTINGS).find(uid).containers if item.name == name)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def _sockets(cgroups: list[Path]) -> int:
    every = [pid for cgroup in cgroups for pid in freezer.pids(cgroup)]
    links = [os.readlink(path) for pid in every for path in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115
    return sum(link.startswith("socket:") for link in links)


def _soon() -> float:
    return time.monotonic() + SECONDS


def _read(log: Path) -> list[str]:
    """Return the lines of a CRI log: time, stream, tag, then what was written."""
    return [line.split(" ", 3)[3] for line in log.read_text().splitlines()] if log.exists() else []


def _last(log: Path) -> Any:
    return json.loads(_read(log)[-1])


def _lines(log: Path, count: int) -> list[Any]:
    """Wait until a container has written `count` lines; return them."""
    deadline = _soon()
    while len(lines := _read(log)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{log} has only {len(lines)} lines")
        time.sleep(0.05)
    return [json.loads(line) for line in lines[:count]]


def _connect(host: str) -> socket.socket:
    deadline = _soon()
    while True:
        try:
            return socket.create_connection((host, PORT), timeout=SECONDS)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _accept(server: socket.socket) -> socket.socket:
    server.settimeout(SECONDS)
    link, _ = server.accept()
    link.settimeout(SECONDS)
    return link


def _send_set(link: socket.socket, name: str, directory: Path) -> None:
    listed = images.manifest(name, directory)
    encoded = listed.SerializeToString()
    link.sendall(struct.pack("!I", len(encoded)) + encoded)
    for chunk in images.chunks(directory, listed):
        link.sendall(chunk)


def _receive_set(link: socket.socket, directory: Path) -> None:
    (length,) = struct.unpack("!I", _exactly(link, 4))
    listed = agent_pb2.Manifest.FromString(_exactly(link, length))
    receiver = images.Receiver(directory, listed)
    left = sum(file.size for file in listed.files) + 32 * len(listed.files)
    while left:
        data = link.recv(min(left, images.CHUNK))
        receiver.write(data)
        left -= len(data)
    receiver.finish()


def _exactly(link: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += link.recv(length - len(data))
    return data


if __name__ == "__main__":
    main()
