"""What an agent answers when it is asked whether a pod can move."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from podferry import errors
from podferry.tcp import inventory
from podferry.wire import agent_pb2
from podferry_agent import testing
from podferry_agent.migration import inspection


class Connections:
    """A pod without sockets."""

    @contextlib.contextmanager
    def open(self, netns: Path, name: str) -> Iterator[Connections]:
        del netns, name
        yield self

    def inspect(self, containers: Any) -> inventory.Inventory:
        assert containers == {"app": [1], "sidecar": [1]}
        return inventory.Inventory(())


def inspect(folder: Path, check: Any) -> agent_pb2.Inspection:
    (folder / "memory.stat").write_text("file 1\nanon 4096\n")
    view: Any = testing.FakePods(testing.World(folder))
    connections: Any = Connections()
    return inspection.Inspector(view, check, lambda _: [1], connections).inspect("uid")


def test_what_would_make_saving_fail_is_a_problem(tmp_path: Path) -> None:
    def check(pod: testing.FakePod) -> None:
        raise errors.Permanent(f"{pod.uid} lies on no overlay", reason="UnsupportedRootfs")

    found = inspect(tmp_path, check)
    assert [(one.reason, one.message) for one in found.problems] == [("UnsupportedRootfs", "uid lies on no overlay")]
    assert list(found.containers) == ["app", "sidecar"]


def test_a_pod_that_can_move_has_none(tmp_path: Path) -> None:
    found = inspect(tmp_path, lambda _: None)
    assert not found.problems
    assert found.memory_bytes == 8192


def test_a_runtime_that_does_not_answer_is_no_verdict(tmp_path: Path) -> None:
    def check(_: testing.FakePod) -> None:
        raise errors.Transient("containerd does not answer", reason="RuntimeUnavailable")

    with pytest.raises(errors.Transient):
        inspect(tmp_path, check)
