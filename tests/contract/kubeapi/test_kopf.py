"""An unmodified kopf operator, as a process of its own, through its life."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

from tests.support.kube_http import MERGE, Json, eventually
from tests.support.kube_probe import DATA, Space, config_map, ferry

FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"


@contextlib.contextmanager
def _operator(space: Space, log: pathlib.Path, *, killed: bool = False) -> Iterator[None]:
    """Run the operator while the block runs; end it softly, or kill it."""
    command = [sys.executable, "-m", "kopf", "run", "--namespace", space.name, str(DATA / "operator.py")]
    with log.open("wb") as output:
        environment = {**os.environ, "KUBECONFIG": str(space.cluster.kubeconfig)}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL if killed else signal.SIGTERM)
            code = process.wait(60)
    assert killed or code == 0, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def _status(space: Space, name: str = "one") -> Json:
    found: Json = space.http.expect(200, "GET", space.path("ferries", name)).get("status", {})
    return found


def _labels(space: Space) -> Json:
    found: Json = space.http.expect(200, "GET", space.path("configmaps", "one"))["metadata"].get("labels")
    return found


def _reasons(space: Space) -> set[str]:
    return {one["reason"] for one in space.http.expect(200, "GET", space.path("events"))["items"]}


def test_an_operators_life(space: Space, tmp_path: pathlib.Path) -> None:
    path = space.path("ferries", "one")
    with _operator(space, tmp_path / "first.log", killed=True):
        space.create("ferries", ferry())
        eventually(lambda: _status(space).get("passengers") == 10, what="creation is handled")
        found = space.http.expect(200, "GET", path)
        assert found["metadata"]["finalizers"] == [FINALIZER]
        assert found["status"]["conditions"] == [{"type": "Ready", "status": "True", "reason": "Boarded"}]
        space.http.expect(200, "PATCH", path, {"spec": {"seats": 12}}, kind=MERGE)
        eventually(lambda: _status(space).get("passengers") == 12, what="the update is handled")
        space.create("configmaps", config_map())
        watched = {"metadata": {"annotations": {"probe.podferry.dev/watched": "true"}}}
        space.http.expect(200, "PATCH", space.path("configmaps", "one"), watched, kind=MERGE)
        eventually(lambda: _labels(space) == {"noticed": "yes"}, what="the other kind is watched")
        eventually(lambda: "Boarded" in _reasons(space), what="events are posted")
    space.http.expect(200, "PATCH", path, {"spec": {"seats": 13}}, kind=MERGE)
    space.create("ferries", ferry("two"))
    with _operator(space, tmp_path / "second.log"):
        eventually(lambda: _status(space, "two").get("passengers") == 10, what="what came meanwhile is handled")
        eventually(lambda: _status(space).get("passengers") in {13, 25, 26}, what="what changed meanwhile is handled")
    space.http.expect(200, "DELETE", path)
    assert space.http.expect(200, "GET", path)["metadata"]["deletionTimestamp"]
    with _operator(space, tmp_path / "third.log"):
        eventually(lambda: space.http.call("GET", path).status == 404, what="the deletion is handled")
        eventually(lambda: "Ashore" in _reasons(space), what="the last event is posted")
        space.http.expect(200, "DELETE", space.path("ferries", "two"))
        eventually(lambda: space.http.call("GET", space.path("ferries", "two")).status == 404)
