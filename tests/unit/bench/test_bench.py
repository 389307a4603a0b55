"""The frame around the measurements: figures merge, captures are read right, charts and page come out of figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.bench import net, report, results, trace, wire
from tests.support import capture

CLIENT, SERVER = ("10.0.0.3", 4000), ("10.0.0.2", 8000)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    monkeypatch.setattr(results, "MACHINE", tmp_path / "machine.json")
    monkeypatch.setattr(trace, "FILE", tmp_path / "traces.json")


def sent(time: float, seq: int, size: int) -> capture.Segment:
    return capture.Segment(time, CLIENT, SERVER, capture.ACK, seq, 1, 100, size)


def acknowledged(time: float, ack: int) -> capture.Segment:
    return capture.Segment(time, SERVER, CLIENT, capture.ACK, 1, ack, 100, 0)


def figures() -> dict[str, float]:
    """Return figures as a run makes them."""
    made = dict.fromkeys(("goodput_after_over_before", "net.gap_over_freeze.10"), 1.0)
    for count in net.COUNTS:
        made |= results.spread(f"dead_ms.repair.{count}", [count, 2 * count, 3 * count])
        made |= {f"flush_ms.repair.{count}": 0.5, f"per_connection_us.repair.{count}": 9.0}
    for seconds in net.FREEZES:
        for name in net.WAYS:
            made |= results.spread(net.delay_key(name, seconds), [seconds + len(name)])
    return made


def test_figures_of_several_runs_merge() -> None:
    results.merge({"a.1": 1.23456, "b": 2})
    results.merge({"b": 3})
    assert results.load() == {"a.1": 1.235, "b": 3.0}
    assert results.machine()["cores"]


def test_the_spread_is_kept() -> None:
    assert results.spread("x", [3, 1, 2]) == {"x": 2, "x.min": 1, "x.max": 3}


def test_a_stream_goes_on_with_what_was_missing() -> None:
    stream = wire.Stream(
        [
            sent(1.0, 100, 50),
            acknowledged(1.1, 150),
            sent(1.2, 150, 50),  # lost
            sent(1.3, 200, 50),  # lost
            sent(2.2, 250, 50),  # after the resume, but not what the server waits for
            sent(2.7, 150, 50),
        ]
    )
    assert stream.progress_after(2.0) == pytest.approx(0.7)
    assert stream.progress_after(3.0) == float("inf")
    assert stream.new_data() == [(1.0, 50), (1.2, 50), (1.3, 50), (2.2, 50)]
    assert stream.sent(1.1, 2.0) == 100


def test_what_overlaps_counts_once() -> None:
    assert wire.Stream([sent(1.0, 2**32 - 10, 20), sent(1.1, 0, 30)]).new_data() == [(1.0, 20), (1.1, 20)]


def test_charts_are_drawn_and_the_page_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(report.PAGE.read_text())
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "PICTURES", tmp_path / "img")
    results.merge(figures())
    trace.FILE.write_text(json.dumps({name: [[0, 0], [1, 2]] for name in net.WAYS}))
    report.write()
    for name in ("bench-dead.svg", "bench-resume.svg", "bench-stream.svg"):
        assert ElementTree.parse(tmp_path / "img" / name).getroot().tag.endswith("svg")  # noqa: S314  our own
        assert f"img/{name}" in page.read_text()
    assert "| 1,000 | 0.5 | 2,000 (1,000 – 3,000) | 9 |" in page.read_text()
    assert "| 10 s | 15 | 14 | 16 |" in page.read_text()


def test_the_page_holds_figures_of_a_whole_run() -> None:
    """The page is made by the tool; a key that was renamed would leave a hole in it."""
    text = report.PAGE.read_text()
    assert len(re.findall(r"^\| [\d.,]+ s? ?\|", text, re.MULTILINE)) == len(net.COUNTS) + len(net.FREEZES)
    for picture in re.findall(r"\]\((img/[^)]+)\)", text):
        assert (report.PAGE.parent / picture).exists()
