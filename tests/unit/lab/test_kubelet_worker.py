"""A kubelet's worker keeps the newest version of its pod, whichever way and in whichever order versions arrive."""

from __future__ import annotations

from typing import Any
from unittest import mock

from tests.lab.kubelet import worker


def pod(version: int, **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": str(version), **meta},
        "spec": {"containers": []},
        "status": {},
    }


def test_an_answer_that_the_watch_has_overtaken_does_not_bring_a_deleted_pod_back() -> None:
    node = mock.Mock()
    working = worker.Worker(pod(5), node, over=lambda _: None)

    def overtaken(*_: Any) -> dict[str, Any]:
        working.update(pod(7, deletionTimestamp="2026-01-01T00:00:00Z"))
        return pod(6)

    node.client.merge.side_effect = overtaken
    working._publish({"phase": "Running"})
    assert working._pod["metadata"]["deletionTimestamp"]


def test_an_old_watch_event_does_not_undo_an_answer() -> None:
    node = mock.Mock()
    node.client.merge.return_value = pod(9)
    working = worker.Worker(pod(5), node, over=lambda _: None)
    working._publish({"phase": "Running"})
    working.update(pod(8))
    assert working._pod["metadata"]["resourceVersion"] == "9"
