"""Service and client against each other on loopback, and what they say when something between them is flawed."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lab.workloads import client, framed, frames, resp, results, server
from tests.support import flawed_proxy
from tests.support.flawed_proxy import Fault, Flaw

FRAMED = (frames.ECHO, frames.SINK, frames.SOURCE, frames.DUPLEX)
FLAWS = (Flaw.DROP, Flaw.REPEAT, Flaw.FLIP, Flaw.SWAP)


@pytest.fixture
def service() -> Iterator[server.Server]:
    running = server.Server(port=0, ballast=1, host="127.0.0.1")
    thread = threading.Thread(target=running.run)
    thread.start()
    yield running
    running.stop()
    thread.join(10)
    assert not thread.is_alive()


def soon_after(event: threading.Event, seconds: float = 0.2) -> Callable[[], bool]:
    """Return a condition that gives what the event broke a moment to surface."""
    ends: list[float] = []

    def condition() -> bool:
        if event.is_set() and not ends:
            ends.append(time.monotonic() + seconds)
        return bool(ends) and time.monotonic() > ends[0]

    return condition


def after(seconds: float) -> Callable[[], bool]:
    ends = time.monotonic() + seconds
    return lambda: time.monotonic() > ends


@pytest.mark.parametrize("mode", FRAMED)
def test_every_mode_is_clean_and_both_ends_agree(service: server.Server, mode: str) -> None:
    result = client.run(client.Settings(service.address, mode, connections=3, pace=0.001), after(0.5))
    assert result.clean, result.summary()
    assert result.instance == service.instance
    assert all(connection.compared > 1000 for connection in result.connections)
    assert result.series
    assert results.loads(result.dumps()) == result


def test_bulk_modes_really_go_at_full_speed(service: server.Server) -> None:
    for mode in (frames.SINK, frames.SOURCE):
        result = client.run(client.Settings(service.address, mode), after(0.5))
        assert result.clean, result.summary()
        assert result.compared > 5_000_000, "half a second on loopback carries far more than this"


def test_many_connections(service: server.Server) -> None:
    result = client.run(client.Settings(service.address, connections=100, pace=0.05), after(0.5))
    assert result.clean, result.summary()
    assert len({connection.local for connection in result.connections}) == 100


@pytest.mark.parametrize(("flaw", "upstream", "length"), [*itertools.product(FLAWS, (True, False), (5, 222))])
def test_a_flaw_between_them_is_noticed(service: server.Server, flaw: Flaw, upstream: bool, length: int) -> None:
    with flawed_proxy.proxy(service.address, Fault(flaw, upstream, length=length)) as between:
        settings = client.Settings(between.address, connections=2, pace=0.001, drain=3)
        result = client.run(settings, soon_after(between.committed))
    assert between.committed.is_set()
    assert len(result.failed) == 1, result.summary()


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("mode", [frames.SINK, frames.SOURCE])
def test_a_flaw_in_bulk_is_noticed(service: server.Server, flaw: Flaw, mode: str) -> None:
    fault = Fault(flaw, upstream=mode == frames.SINK, at=1_000_000, length=64)
    with flawed_proxy.proxy(service.address, fault) as between:
        result = client.run(client.Settings(between.address, mode, drain=3), between.committed.is_set)
    assert len(result.failed) == 1, result.summary()


def test_a_flawless_proxy_is_clean(service: server.Server) -> None:
    with flawed_proxy.proxy(service.address, Fault(Flaw.NONE, upstream=True)) as between:
        result = client.run(client.Settings(between.address, pace=0.001), after(0.3))
    assert result.clean, result.summary()


@pytest.mark.parametrize(("flaw", "kinds"), [(Flaw.RESET, {"reset", "closed"}), (Flaw.STALL, {"stalled"})])
def test_an_ending_that_nobody_asked_for_is_named(service: server.Server, flaw: Flaw, kinds: set[str]) -> None:
    with flawed_proxy.proxy(service.address, Fault(flaw, upstream=False)) as between:
        settings = client.Settings(between.address, pace=0.001, drain=0.5)
        result = client.run(settings, soon_after(between.committed))
    assert [one.failure.kind in kinds for one in result.failed if one.failure] == [True], result.summary()


def test_a_pause_is_measured_where_it_was(service: server.Server) -> None:
    pause = threading.Event()
    stat = service.stat
    began = time.time()

    def slow() -> bytes:
        if not pause.is_set():
            return stat()
        pause.clear()
        time.sleep(0.6)
        return stat()

    service.stat = slow  # type: ignore[method-assign]  # the loop has one thread: a slow answer stops every stream

    def hold() -> None:
        pause.set()
        framed.stat(service.address)

    timer = threading.Timer(0.5, hold)
    timer.start()
    result = client.run(client.Settings(service.address, connections=2, pace=0.01), after(1.6))
    timer.join()
    assert result.clean, result.summary()
    for connection in result.connections:
        assert 0.5 < connection.gap.seconds < 1.2
        assert began + 0.4 < connection.gap.begin < connection.gap.end < began + 2


def test_another_process_behind_the_address_is_noticed(service: server.Server) -> None:
    def swap() -> bool:
        service.instance = "other"
        return True

    result = client.run(client.Settings(service.address), swap)
    assert not result.clean
    assert result.problems == ["another process answers at the end than at the beginning"]


def test_changed_memory_is_noticed(service: server.Server) -> None:
    service.ballast.data[4097] ^= 1
    result = client.run(client.Settings(service.address), after(0.1))
    assert result.problems == ["the service's memory is not what it was"]


def test_nonsense_is_refused_and_a_stream_begins_once(service: server.Server) -> None:
    for opening in (b"nonsense\n", b"echo x\n", b"x" * 100, b"echo 5\n", b"echo 5\n"):
        with socket.create_connection(service.address) as sock:
            sock.sendall(opening)
            if opening != b"echo 5\n" or "5" in framed.stat(service.address)["streams"]:
                sock.settimeout(5)
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(10) == b""
    assert framed.stat(service.address)["accepted"] > 5


def test_the_command_ends_on_a_signal_with_a_verdict(service: server.Server, tmp_path: Path) -> None:
    result, glance = tmp_path / "result.json", tmp_path / "glance.json"
    address = f"127.0.0.1:{service.address[1]}"
    command = [sys.executable, "-m", "tests.lab.workloads.client", address, "--result", str(result)]
    command += ["--progress", str(glance)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for(glance.exists)
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert output.startswith("clean: echo, 1 connections")
    assert results.loads(result.read_text()).clean
    assert results.glance(glance.read_text()).connections == 1


def test_the_service_runs_as_a_script_without_the_repository(tmp_path: Path) -> None:
    for name in ("server.py", "frames.py"):
        shutil.copy(Path(server.__file__).with_name(name), tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    command = [sys.executable, str(tmp_path / "server.py"), "--port", str(port), "--ballast", "2"]
    with subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE, text=True, env={}) as process:
        report = framed.stat(("127.0.0.1", port))
        assert report["pid"] == process.pid
        assert report["ballast"] == {"bytes": 2 << 20, "intact": True}
        process.terminate()
        assert process.wait(10) == 0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, int]]:
    # Debian's redis-tools carries the server too: one program that looks at the name it is called by.
    binary = shutil.which("redis-check-rdb")
    if binary is None:
        pytest.skip("needs Debian's package redis-tools")
    (tmp_path / "redis-server").symlink_to(binary)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    command = [str(tmp_path / "redis-server"), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        resp.run_id(("127.0.0.1", port))
        yield ("127.0.0.1", port)
        process.terminate()


def test_redis_is_clean_and_its_memory_reads_back(redis: tuple[str, int]) -> None:
    result = client.run(client.Settings(redis, client.REDIS, connections=5, pace=0.001), after(0.5))
    assert result.clean, result.summary()
    assert all(connection.compared > 1000 for connection in result.connections)


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("upstream", [True, False])
def test_a_flaw_before_redis_is_noticed(redis: tuple[str, int], flaw: Flaw, upstream: bool) -> None:
    with flawed_proxy.proxy(redis, Fault(flaw, upstream, length=5)) as between:
        settings = client.Settings(between.address, client.REDIS, pace=0.001, drain=1)
        result = client.run(settings, soon_after(between.committed))
    assert not result.clean, result.summary()


def test_memory_that_another_client_changed_is_noticed(redis: tuple[str, int]) -> None:
    def meddle() -> bool:
        with socket.create_connection(redis) as sock:
            sock.sendall(resp.command(b"SET", b"podferry:9:n", b"12345678"))
            return sock.recv(100) == b"+OK\r\n"

    result = client.run(client.Settings(redis, client.REDIS, first_stream=9), meddle)
    assert "memory read back" in result.problems[0]


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def test_stat_is_one_line_of_json(service: server.Server) -> None:
    assert json.loads(service.stat())["instance"] == service.instance
