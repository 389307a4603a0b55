"""The operator as a process: what it serves, and how it refuses to start."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.support import stage


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _page(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def test_metrics_and_liveness(own_place: tuple[stage.Stage, stage.Operator]) -> None:
    place, operator = own_place
    place.pod()
    metrics, liveness = _free_port(), _free_port()
    operator.start("--metrics-port", str(metrics), "--liveness-port", str(liveness))
    stage.until("it is alive", lambda: _page(liveness, "healthz"))
    place.migrate()
    place.end()
    page = _page(metrics, "metrics")
    assert 'podferry_migrations_total{reason="Moved",result="succeeded"} 1.0' in page
    assert "podferry_connection_dead_seconds_count 1.0" in page
    assert 'podferry_step_seconds_count{step="Cut"} 1.0' in page
    assert "podferry_loop_failures_total 0.0" in page


def test_without_certificates_it_says_which_file_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "podferry_operator", "--tls-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("podferry-operator: --tls-dir:")
    assert "ca.crt" in done.stderr
    assert "Traceback" not in done.stderr
