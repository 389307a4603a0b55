"""The page of one migration: what it shows, and that it needs nothing from elsewhere."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from podferry_operator.report import model, page

STARTED = 1_700_000_000.0
STEPS = {"Requested": 0.1, "Prepare": 7.9, "Freeze": 0.5, "Save": 2.5, "Send": 2.0, "Restore": 1.5, "Flush": 0.4}
REST = {"Cut": 0.05, "Commit": 0.01, "Resume": 0.5, "Cleanup": 4.54}


def stamp(seconds: float) -> str:
    return f"2023-11-14T22:13:{20 + seconds:09.6f}Z"


def migration() -> dict[str, Any]:
    """Return a migration of 20 s; frozen from the 8th on for 7 s, dark from 14.9 s on for 100 ms."""
    timings, begin = [], 0.0
    for step, seconds in (STEPS | REST).items():
        timings.append({"step": step, "startedAt": stamp(begin), "seconds": seconds})
        begin += seconds
    audit = {"local": "10.0.0.1:80", "peer": "10.0.0.2:4711", "state": "ESTABLISHED", "fate": "kept", "flushed": True}
    moved = {"type": "Succeeded", "status": "True", "reason": "Moved", "message": "it runs <b>there</b>"}
    return {
        "metadata": {"name": "web-to-b", "namespace": "shop"},
        "spec": {"podName": "web", "targetNode": "b"},
        "status": {
            "conditions": [moved],
            "timings": timings,
            "freezeSeconds": 7.0,
            "connections": {
                "total": 300,
                "kept": 299,
                "closed": 1,
                "flushed": 298,
                "deadTimeMs": 100.0,
                "audit": [audit],
            },
            "memory": {"bytes": 1 << 20, "imageBytes": 3 << 20},
        },
    }


def points() -> list[model.Point]:
    """Return 1000 bytes every tenth of a second, but none while the pod is frozen."""
    times = [STARTED + tenth / 10 for tenth in range(200)]
    return [model.Point(at, 0.1, 0 if STARTED + 8 <= at < STARTED + 15 else 1000) for at in times]


def test_bars_and_shadows_lie_where_the_time_was_spent() -> None:
    status = migration()["status"]
    bars = {bar.label: bar for bar in model.timeline(status)}
    assert [bar.kind for bar in bars.values()] == ["serves"] * 2 + ["frozen"] * 5 + ["dark"] * 2 + ["frozen", "serves"]
    assert (round(bars["Prepare"].left, 3), round(bars["Prepare"].width, 3)) == (0.5, 39.5)
    span = model.whole(status)
    assert span is not None
    frozen, dark = model.shadows(status, span)
    assert (frozen.kind, round(frozen.left, 3), round(frozen.width, 3)) == ("frozen", 40, 35)
    assert (dark.kind, round(dark.left, 3), round(dark.width, 3)) == ("dark", 74.5, 0.5)


def test_the_freeze_ends_when_the_connections_are_unlocked() -> None:
    status = migration()["status"]
    status["freezeSeconds"] = 6.2  # new connections were held for 0.8 s before
    frozen, dark = model.frozen(status), model.dark(status)
    assert frozen is not None
    assert dark is not None
    assert frozen.end == dark.end
    assert round(frozen.begin - STARTED, 3) == 8.8


def test_the_throughput_falls_to_nothing_while_the_pod_is_frozen() -> None:
    chart = model.chart(migration()["status"], points())
    assert chart is not None
    assert chart.seconds == 11
    assert chart.peak == "9.77KiB/s"
    heights = [(float(x), 100 - float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", chart.line)]
    frozen = chart.bands[0]
    inside = [height for x, height in heights if frozen.left + 2 < x < frozen.left + frozen.width - 2]
    outside = [height for x, height in heights if x < frozen.left - 2 or x > frozen.left + frozen.width + 2]
    assert inside
    assert max(inside) < 0.01
    assert min(outside) > 0.99 * model.HEIGHT
    assert model.chart(migration()["status"], []) is None


def test_the_page_says_it_all_and_loads_nothing() -> None:
    written = page.render(migration(), points(), [model.Figure("longest wait", "8.06s", "as a client saw it")])
    for word in ("web → b", "Succeeded (Moved)", "7s", "100ms", "299 of 300", "10.0.0.2:4711", "longest wait", "8.06s"):
        assert word in written
    assert "299 more are in the source agent" in written
    assert "&lt;b&gt;there&lt;/b&gt;" in written
    assert not re.search(r"https?:|src=|@import|url\(", written)


def test_a_migration_that_failed_early_has_a_page_too() -> None:
    failed = migration()
    message = "spec.podName: pod shop/web does not exist"
    condition = {"type": "Succeeded", "status": "False", "reason": "PodNotFound", "message": message}
    failed["status"] = {"conditions": [condition]}
    written = page.render(failed)
    assert f"Failed (PodNotFound): {message}" in written
    del failed["status"]
    assert "Under way" in page.render(failed)


def test_what_cannot_move_is_listed() -> None:
    refused = copy.deepcopy(migration())
    socket = {"process": "web", "pid": 7, "fd": 5, "socket": "mptcp ESTAB", "reason": "Mptcp", "message": "no MPTCP"}
    refused["status"]["connections"] = {"total": 0, "unmovable": [socket]}
    assert "web (7), fd 5" in page.render(refused)


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_runs_out_of_the_window(tmp_path: Path, width: int) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium to draw the page with")
    probe = "<script>document.title = document.documentElement.scrollWidth + ' of ' + window.innerWidth</script></body>"
    shown = tmp_path / "page.html"
    shown.write_text(page.render(migration(), points()).replace("</body>", probe))
    frame = tmp_path / "frame.html"  # headless windows are never narrower than 500 pixels; a frame may be
    frame.write_text(
        f'<iframe src="page.html" width="{width}" height="900" '
        'onload="document.title = this.contentDocument.title"></iframe>'
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", frame.as_uri()]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"<title>(\d+) of (\d+)</title>", drawn)
    assert found is not None, drawn[:2000]
    assert int(found[1]) <= int(found[2]) == width
