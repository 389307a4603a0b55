"""The embedded API as a program: sockets, kubeconfig, shutdown, use within a test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp
import pytest
import yaml
from tests.lab.kubeapi import errors, server, store
from tests.support import processes
from tests.support.kube_http import Http, eventually
from tests.support.kube_probe import ROOT


@contextlib.contextmanager
def _program(*arguments: str, fds: Sequence[int] = ()) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.lab.kubeapi", *arguments]
    with processes.running(command, cwd=ROOT, stdout=subprocess.PIPE, pass_fds=fds) as process:
        yield process


def test_inherited_sockets(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        kubeconfig = tmp_path / "kubeconfig"
        arguments = ["--fd", str(first.fileno()), "--fd", str(second.fileno()), "--write-kubeconfig", str(kubeconfig)]
        with _program(*arguments, fds=[first.fileno(), second.fileno()]) as process:
            assert process.stdout is not None
            ports = [one.getsockname()[1] for one in (first, second)]
            assert process.stdout.readline() == f"serving http://127.0.0.1:{ports[0]}\n"
            for port in ports:
                assert Http(f"http://127.0.0.1:{port}", "", None).expect(200, "GET", "/readyz") == {"text": "ok"}
            assert kubeconfig.stat().st_mode & 0o777 == 0o600
            cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
            assert cluster == {"server": f"http://127.0.0.1:{ports[0]}"}


def test_termination_does_not_wait_for_watches() -> None:
    with _program() as process:
        assert process.stdout is not None
        http = Http(process.stdout.readline().split()[1], "", None)
        with http.watching("/api/v1/namespaces") as events:
            first = next(events)
            assert first["object"]["metadata"]["name"] == "default"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0  # the watch itself would last for a minute


def test_in_process() -> None:
    async def scenario() -> list[str]:
        async with server.serving() as running, aiohttp.ClientSession(running.url) as session:
            body = {"metadata": {"name": "made"}}
            async with session.post("/api/v1/namespaces", json=body) as answer:
                assert answer.status == 201
            async with session.get("/api/v1/namespaces") as answer:
                found: dict[str, Any] = await answer.json()
                return [one["metadata"]["name"] for one in found["items"]]

    assert "made" in asyncio.run(scenario())


def test_watches_that_fall_behind_are_told_to_start_over() -> None:
    collection = ("", "configmaps")
    small = store.Store(revision=100, history=3)
    for index in range(5):
        small.write(collection, {"metadata": {"name": f"m{index}", "namespace": "n"}})
    assert [change.revision for change in small.since(collection, 102)] == [103, 104, 105]
    with pytest.raises(errors.ApiError) as forgotten:
        small.since(collection, 101)
    assert forgotten.value.code == 410


def test_idle_costs_nothing() -> None:
    with _program() as process:
        assert process.stdout is not None
        http = Http(process.stdout.readline().split()[1], "", None)
        with contextlib.ExitStack() as exits:
            streams = [exits.enter_context(http.watching("/api/v1/pods", allowWatchBookmarks="true")) for _ in range(4)]
            assert len(streams) == 4
            before, started = _processor_seconds(process.pid), time.monotonic()
            eventually(lambda: time.monotonic() - started > 2)
            assert _processor_seconds(process.pid) - before < 0.1


def _processor_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, itertools.islice(fields, 11, 13))) / os.sysconf("SC_CLK_TCK")
