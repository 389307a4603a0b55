"""The machines do what every other lab test takes for granted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lab import lab as lab_module
from tests.lab import layout, state
from tests.lab import node as lab_node

from podferry import ids

pytestmark = pytest.mark.lab

SERVER = """
import socket
with socket.create_server(("", 80)) as server:
    while True:
        connection, address = server.accept()
        print("met", address[0], flush=True)
        connection.sendall(b"hello")
        connection.close()
"""
SERVE = ("/usr/bin/python3", "-Sc", SERVER)
MET_CLIENT = f"met {layout.CLIENT_ADDRESS}"
VISIT = """
import socket, sys, time
end = time.monotonic() + 30
while True:
    try:
        with socket.create_connection((sys.argv[1], 80), timeout=5) as connection:
            sys.exit(connection.recv(5) != b"hello")
    except OSError:
        if time.monotonic() > end:
            raise
        time.sleep(0.2)
"""
"""For a process in the clients' namespace; a pod's server needs a moment to start."""
PING = ("ping", "-n", "-c", "1", "-W", "2")
BUSYBOX_PING = ("busybox", "ping", "-c", "1", "-W", "5")
ADDRESS = "10.77.0.50"

SECONDS = 240.0
"""For starting or removing a pod: on a busy machine that takes long without being wrong."""

Run = Callable[..., dict[str, str]]


@pytest.fixture
def run_pod(lab: lab_module.Lab) -> Iterator[Run]:
    """Return a function that runs a pod on a node: (node, name, annotations, command) → ids and address."""
    running: list[tuple[lab_node.Node, str]] = []

    def run(node: lab_node.Node, name: str, annotations: dict[str, str], *command: str) -> dict[str, str]:
        words = ("python3", "-m", "tests.lab.guest.pod", "run", name, json.dumps(annotations), *command)
        pod: dict[str, str] = json.loads(node.run(*words, timeout=SECONDS).out)
        running.append((node, pod["sandbox"]))
        return pod

    yield run
    for node, sandbox in running:
        node.run("python3", "-m", "tests.lab.guest.pod", "remove", sandbox, timeout=SECONDS)


def test_nodes_and_clients_reach_each_other(lab: lab_module.Lab) -> None:
    a, b = lab.nodes["node-a"], lab.nodes["node-b"]
    a.run(*PING, b.address)
    b.run(*PING, layout.API_ADDRESS)
    for address in (a.address, b.address):
        assert lab.client([*BUSYBOX_PING, address], stdout=subprocess.DEVNULL).wait(10) == 0


def test_a_cut_link_carries_nothing(lab: lab_module.Lab) -> None:
    a, b = lab.nodes["node-a"], lab.nodes["node-b"]
    with lab.cut_off("node-b"):
        assert a.run(*PING, b.address, check=False).code != 0
        assert b.run("hostname").out.strip() == "node-b", "the control channel does not depend on the network"
    a.run("ping", "-n", "-c", "1", "-w", "5", b.address)


def test_an_impaired_node_answers_late(lab: lab_module.Lab) -> None:
    a = lab.nodes["node-a"]
    a.impair("delay 500ms")
    try:
        begin = time.monotonic()
        assert lab.in_lab([*BUSYBOX_PING, a.address], stdout=subprocess.DEVNULL).wait(10) == 0
        assert time.monotonic() - begin > 0.5
    finally:
        a.impair("")
    assert "netem" not in a.run("tc", "qdisc", "show", "dev", "eth0").out


def test_a_killed_service_comes_back(lab: lab_module.Lab) -> None:
    containerd = lab.nodes["node-a"].service("containerd")
    before = containerd.wait_ready()
    containerd.kill()
    deadline = time.monotonic() + 30
    while (now := containerd.status()).pid in (None, before.pid) or not now.ready:
        assert time.monotonic() < deadline, now
        time.sleep(0.1)
    assert now.starts == before.starts + 1
    assert now.last_exit == -signal.SIGKILL


def test_files_go_both_ways(lab: lab_module.Lab) -> None:
    node, data = lab.nodes["node-a"], os.urandom(700_000)
    node.put("/tmp/deep/file", data, 0o600)
    assert node.get("/tmp/deep/file") == data
    assert node.run("stat", "-c", "%a", "/tmp/deep/file").out == "600\n"
    assert node.run("sh", "-c", "cat; echo err >&2; exit 3", check=False, stdin=b"in") == lab_node.Completed(
        3, "in", "err\n"
    )
    assert node.run("sleep", "60", check=False, timeout=0.2).code is None


def test_a_container_runs_through_cri(lab: lab_module.Lab, run_pod: Run) -> None:
    node = lab.nodes["node-a"]
    first = run_pod(node, "first", {}, *SERVE)
    second = run_pod(lab.nodes["node-b"], "second", {}, *SERVE)
    assert first["address"].startswith("10.77.1.")
    assert second["address"].startswith("10.77.2.")
    for pod in (first, second):
        _visit(lab, pod["address"])
    assert MET_CLIENT in _log(node, "first")
    assert "RUNNING" in node.run("ctr", "-n", "k8s.io", "tasks", "list").out


@pytest.mark.parametrize(
    ("image", "command"),
    [
        (
            layout.SAMPLE_IMAGE,
            ("python3", "-c", "import asyncio, ctypes, hashlib, json, logging, ssl, zlib; print('ran')"),
        ),
        (layout.SAMPLE_IMAGE, ("sh", "-c", "test -e /app/server.py && echo ran")),
        (layout.REDIS_IMAGE, ("sh", "-c", "redis-server --version && redis-cli --version && echo ran")),
    ],
)
def test_what_the_images_promise_runs(lab: lab_module.Lab, image: str, command: tuple[str, ...]) -> None:
    done = lab.nodes["node-b"].run("ctr", "-n", "k8s.io", "run", "--rm", image, "promise", *command, timeout=SECONDS)
    assert done.out.endswith("ran\n"), done


def test_the_network_keeps_an_address_and_holds_it_back(lab: lab_module.Lab, run_pod: Run) -> None:
    a, b = lab.nodes["node-a"], lab.nodes["node-b"]
    fixed = {layout.FIXED_ADDRESS_ANNOTATION: json.dumps([ADDRESS])}
    source = run_pod(a, "source", fixed, *SERVE)
    assert source["address"] == ADDRESS
    held = run_pod(b, "held", {**fixed, ids.HOLD_ANNOTATION: "true"}, *SERVE)
    assert held["address"] == ADDRESS
    source_link, held_link = (_link(node, pod["sandbox"]) for node, pod in ((a, source), (b, held)))
    assert source_link["master"] == layout.BRIDGE
    assert "ifalias" not in source_link
    assert "master" not in held_link
    assert held_link["ifalias"] == layout.HOLD_ALIAS
    assert held_link["operstate"] == "UP"

    _visit(lab, ADDRESS)
    assert MET_CLIENT in _log(a, "source")
    assert MET_CLIENT not in _log(b, "held")
    # What the agents do at the cut: the source's link leaves its bridge, the target's joins one.
    a.run("ip", "link", "set", source_link["ifname"], "nomaster")
    b.run("ip", "link", "set", held_link["ifname"], "master", layout.BRIDGE)
    b.run(
        "ctr", "-n", "k8s.io", "tasks", "exec", "--exec-id", "arp", held["container"], *BUSYBOX_PING, layout.API_ADDRESS
    )
    _visit(lab, ADDRESS)
    assert MET_CLIENT in _log(b, "held")


def test_nothing_is_left_after_a_signal() -> None:
    script = (
        "import time; from tests.lab import lab\n"
        "with lab.Lab(['only'], name='signalled') as up:\n"
        "    print(up.lab_prefix[3], *(process.pid for process in up._state.processes), flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, "PODFERRY_LAB_SLOTS": "9"}  # the shared lab of this run has one already
    child = subprocess.Popen(
        [sys.executable, "-c", script], cwd=lab_module.REPOSITORY, stdout=subprocess.PIPE, env=environment
    )
    assert child.stdout is not None
    namespace, *pids = child.stdout.readline().decode().split()
    assert Path("/run/netns", namespace).exists()
    assert state.load("signalled") is not None
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 128 + signal.SIGTERM
    assert pids
    assert not [pid for pid in pids if Path("/proc", pid).exists()]
    assert not list(Path("/run/netns").glob(f"{namespace}*"))
    assert state.load("signalled") is None
    assert not (state.root() / "signalled").exists()


def _visit(lab: lab_module.Lab, address: str) -> None:
    assert lab.client([sys.executable, "-c", VISIT, address]).wait(60) == 0


def _log(node: lab_node.Node, pod: str) -> str:
    return node.get(f"/var/log/pods/machines/{pod}.log").decode()


def _link(node: lab_node.Node, sandbox: str) -> dict[str, str]:
    found: list[dict[str, str]] = json.loads(node.run("ip", "-json", "link", "show", f"veth{sandbox[:11]}").out)
    return found[0]
