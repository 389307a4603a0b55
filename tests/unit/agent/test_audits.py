"""The files with every connection's fate."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from podferry.wire import agent_pb2
from podferry_agent.migration import audits


def test_every_connection_has_a_line_and_the_newest_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "KEPT", 2)
    files = audits.AuditFiles(tmp_path / "audit")
    for age, name in enumerate(("first", "second", "third")):
        files.write(name, [agent_pb2.ConnectionAudit(local="10.0.0.1:80", fate="kept")] * 3)
        os.utime(tmp_path / "audit" / f"{name}.jsonl", (age, age))
    files.write("fourth", [])
    assert {path.stem for path in (tmp_path / "audit").iterdir()} == {"third", "fourth"}
    lines = (tmp_path / "audit/third.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"local": "10.0.0.1:80", "fate": "kept"}] * 3


def test_a_disk_that_refuses_costs_only_the_file(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file where the folder should be")
    audits.AuditFiles(tmp_path / "audit").write("id", [agent_pb2.ConnectionAudit()])
