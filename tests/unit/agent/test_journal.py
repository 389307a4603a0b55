"""The journal: what was recorded is there in the next life, whatever cut the last line off."""

from __future__ import annotations

from pathlib import Path

import pytest

from podferry import errors
from podferry_agent.migration import journal

UID = "12345678-1234-1234-1234-1234567890ab"


def test_the_next_life_reads_what_was_recorded(tmp_path: Path) -> None:
    journals = journal.Journals(tmp_path)
    first = journals.open(UID, "source")
    first.record("freezing", cgroups=["/a"])
    first.record("freezing", cgroups=["/b"])
    first.record("committed", durable=True)
    first.close()
    (second,) = journals.all()
    assert (second.migration_id, second.role) == (UID, "source")
    assert second.facts("freezing") == {"cgroups": ["/b"]}
    assert second.has("committed")
    assert not second.has("finished")


def test_a_line_cut_off_by_a_crash_was_never_acted_upon(tmp_path: Path) -> None:
    first = journal.Journals(tmp_path).open(UID, "target")
    first.record("admitted", order="x")
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes() + b'{"event":"commit')
    (second,) = journal.Journals(tmp_path).all()
    assert second.has("admitted")
    assert not second.has("committed")


def test_a_damaged_journal_needs_a_person(tmp_path: Path) -> None:
    path = tmp_path / f"{UID}.source.journal"
    path.write_bytes(b"garbage\n")
    with pytest.raises(errors.Inconsistent, match=str(path)):
        journal.Journals(tmp_path).all()


def test_removed_is_forgotten_and_only_uids_become_paths(tmp_path: Path) -> None:
    journals = journal.Journals(tmp_path)
    journals.open(UID, "source").remove()
    assert journals.all() == []
    with pytest.raises(errors.InvalidInput):
        journals.open("../../etc/passwd", "source")
