"""Saving and restoring a pod for real: containerd, runc and CRIU on two nodes, the runtime hook in between.

The agent's modules are driven by tests/lab/restoring on the nodes; there is no migration code and no connection engine,
so established connections are only watched while the pod is saved, and are gone on the target.
"""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.lab import lab as labs
from tests.lab import node as nodes

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

SECONDS = 400.0
MIGRATIONS = ("aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002")
UIDS = [f"bbbbbbbb-0000-4000-8000-00000000000{number}" for number in range(8)]

CLIENT = """
import fcntl, json, socket, struct, sys, termios, time
s = socket.create_connection((sys.argv[1], 5000))
stalls = []
while True:
    s.send(b"x")
    sent = time.time()
    while struct.unpack("i", fcntl.ioctl(s, termios.TIOCOUTQ, b"    "))[0]:
        time.sleep(0.002)
    print(json.dumps([sent, time.time() - sent]), flush=True)
    time.sleep(0.02)
"""
"""Sends a byte and waits until the pod's kernel has acknowledged it, again and again; prints when and how long."""


def tell(what: str) -> None:
    print(what)  # noqa: T201  shown by pytest -s, and with every failure


def drive(node: nodes.Node, command: str, **options: str | int) -> Any:
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = node.run("python3", "-m", "tests.lab.restoring", command, *words, timeout=SECONDS)
    return json.loads(done.out.splitlines()[-1])


def move(
    source: nodes.Node, target: nodes.Node, uids: tuple[str, str], migration: str, damage: str = ""
) -> tuple[Any, Any]:
    """Move a pod; return the reports of both nodes."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        arriving = pool.submit(drive, target, "target", uid=uids[1], migration=migration, damage=damage)
        leaving = pool.submit(drive, source, "save", uid=uids[0], send=target.address)
        return leaving.result(), arriving.result()


def without_count(seen: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in seen.items() if key not in {"n", "sockets"}}


@pytest.fixture(autouse=True)
def undisturbed(lab: labs.Lab) -> Iterator[None]:
    """Keep kubelet and agent off while the tests do their work, and remove the pods that a test has left."""
    stopped = []
    for node in lab.nodes.values():
        for service in (node.service("kubelet"), node.service("agent")):
            if service.status().pid is not None:
                service.stop()
                stopped.append(service)
    yield
    for node in lab.nodes.values():
        drive(node, "remove", uid=",".join(UIDS))
    for service in reversed(stopped):
        service.start()


def test_a_pod_of_two_containers_goes_there_and_back(lab: labs.Lab) -> None:
    a, b = lab.nodes["node-a"], lab.nodes["node-b"]
    address = drive(a, "start", uid=UIDS[0], handler="runc")["address"]
    client = lab.client([sys.executable, "-c", CLIENT, address], stdout=subprocess.PIPE)
    try:
        saved, arrived = move(a, b, (UIDS[0], UIDS[1]), MIGRATIONS[0])
    finally:
        client.kill()
    answers = [json.loads(line) for line in client.communicate()[0].splitlines()]
    during = [stall for sent, stall in answers if saved["began"] < sent < saved["ended"] - stall]
    took = saved["ended"] - saved["began"]
    tell(f"saved in {took:.1f} s; meanwhile {len(during)} bytes acknowledged, the slowest after {max(during):.2f} s")
    assert saved["frozen"] == [True, True]
    assert saved["markers"] == []
    assert max(during) < took / 2, "the pod's kernel answers while CRIU saves"

    check_arrival(saved, arrived)
    thawed = drive(a, "thaw", uid=UIDS[0])
    for name in ("one", "two"):
        assert thawed[name]["n"] == saved["last"][name]["n"] + 1, (
            "a source that is thawed goes on as if nothing had been"
        )
    drive(a, "remove", uid=UIDS[0])  # the node has only so much memory
    saved, arrived = move(b, a, (UIDS[1], UIDS[2]), MIGRATIONS[1])
    check_arrival(saved, arrived)

    later = drive(a, "afterwards", uid=UIDS[2], migration=MIGRATIONS[1])
    assert later["exec"] == "volume of one is locked\n"
    assert later["stopped"] == 7
    assert later["killed"] == 137
    assert later["again"]["n"] == 1, "started afresh"
    assert later["markers"] == 0


def check_arrival(saved: Any, arrived: Any) -> None:
    assert "error" not in saved
    assert "error" not in arrived
    assert arrived["states"] == ["T", "T"]
    assert all(
        home.endswith(arrived["made"][name]) for home, name in zip(arrived["homes"], ("one", "two"), strict=True)
    )
    assert arrived["sockets"] == saved["sockets"]
    for name, number in (("one", 1), ("two", 2)):
        last, following = saved["last"][name], arrived["next"][name]
        assert following["n"] == last["n"] + 1
        assert without_count(following) == without_count(last)
        assert last["host"] == "web-0"
        assert last["deleted"] == 2_000_000
        assert last["app"] == ["server.py"]
        assert len(last["data"]) == len(last["shm"]) == 2, number
    assert saved["last"]["one"]["ipc"] == 3
    assert saved["last"]["two"]["ipc"] == "attached"
    tell(f"saved { ({key: saved[key] for key in ('one', 'two')}) }, restored in {arrived['seconds']:.1f} s")


def test_what_criu_cannot_save_is_told_and_stays_whole(lab: labs.Lab) -> None:
    node = lab.nodes["node-a"]
    drive(node, "start", uid=UIDS[3], handler="runc", words="stubborn")
    saved = drive(node, "save", uid=UIDS[3])
    assert "CheckpointFailed: one: " in saved["error"]
    assert "pidfd" in saved["error"]
    assert saved["frozen"] == [True, True]
    thawed = drive(node, "thaw", uid=UIDS[3])
    for name in ("one", "two"):
        assert thawed[name]["n"] == saved["last"][name]["n"] + 1
        assert without_count(thawed[name]) == without_count(saved["last"][name])


def test_a_failed_restore_is_told_and_the_application_not_started_afresh(lab: labs.Lab) -> None:
    a, b = lab.nodes["node-a"], lab.nodes["node-b"]
    drive(a, "start", uid=UIDS[4], handler="podferry")
    saved, arrived = move(a, b, (UIDS[4], UIDS[5]), MIGRATIONS[0], damage="core-*.img")
    assert "RestoreFailed: one: " in arrived["error"]
    assert "core-" in arrived["error"]
    for name in ("one", "two"):
        assert "was aborted: RestoreFailed" in arrived["made"][name], "nor by the kubelet's next attempt"
    thawed = drive(a, "thaw", uid=UIDS[4])
    assert thawed["one"]["n"] == saved["last"]["one"]["n"] + 1


def test_an_ordinary_pod_is_as_under_runc(lab: labs.Lab) -> None:
    report = drive(lab.nodes["node-a"], "ordinary", uid=UIDS[6])
    assert report["podferry"]["code"] == report["runc"]["code"] == 3
    assert report["podferry"]["said"] == report["runc"]["said"] == ["said"]
    runc, hooked = report["seconds"]
    tell(f"a command of runc takes {hooked / runc:.2f} times as long through the hook ({runc * 1e3:.0f} ms without)")
    assert hooked / runc < 1.3
