"""Watches: replay, filters, bookmarks, streaming lists, time-outs and outdated revisions."""

from __future__ import annotations

import time

from tests.support.kube_http import MERGE, Json
from tests.support.kube_probe import Space, config_map, ferry


def _brief(events: list[Json]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


def test_present_state_comes_first_then_changes(space: Space) -> None:
    space.create("ferries", ferry("a"))
    with space.http.watching(space.path("ferries")) as events:
        assert _brief([next(events)]) == [("ADDED", "a")]
        space.create("ferries", ferry("b"))
        space.http.expect(200, "PATCH", space.path("ferries", "a"), {"spec": {"seats": 3}}, kind=MERGE)
        space.http.expect(200, "DELETE", space.path("ferries", "b"))
        seen = [next(events) for _ in range(3)]
    assert _brief(seen) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in seen]
    assert revisions == sorted(set(revisions))
    assert seen[0]["object"]["kind"] == "Ferry"


def test_a_watch_resumes_where_another_ended(space: Space) -> None:
    since = space.http.expect(200, "GET", space.path("configmaps"))["metadata"]["resourceVersion"]
    first = space.create("configmaps", config_map("a"))
    space.create("configmaps", config_map("b"))
    space.http.expect(200, "DELETE", space.path("configmaps", "a"))
    fields = "metadata.name!=kube-root-ca.crt"
    all_of_it = space.http.events(space.path("configmaps"), 3, resourceVersion=since, fieldSelector=fields)
    assert _brief(all_of_it) == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    assert all_of_it[0]["object"]["kind"] == "ConfigMap"
    since = first["metadata"]["resourceVersion"]
    rest = space.http.events(space.path("configmaps"), 2, resourceVersion=since, fieldSelector=fields)
    assert _brief(rest) == [("ADDED", "b"), ("DELETED", "a")]


def test_an_outdated_revision_is_gone(space: Space) -> None:
    (event,) = space.http.events(space.path("ferries"), 1, resourceVersion="1")
    assert event["type"] == "ERROR"
    assert (event["object"]["kind"], event["object"]["code"], event["object"]["reason"]) == ("Status", 410, "Expired")


def test_a_watch_ends_when_asked_to(space: Space) -> None:
    started = time.monotonic()
    assert space.http.events(space.path("ferries"), 1, seconds=1) == []
    assert 0.5 < time.monotonic() - started < 5


def test_selectors_turn_changes_into_comings_and_goings(space: Space) -> None:
    since = space.http.expect(200, "GET", space.path("ferries"))["metadata"]["resourceVersion"]
    space.create("ferries", ferry())
    for labels in ({"x": "1"}, {"x": "1", "y": "2"}, {"x": None}, {"x": "1"}):
        space.http.expect(200, "PATCH", space.path("ferries", "one"), {"metadata": {"labels": labels}}, kind=MERGE)
    space.http.expect(200, "DELETE", space.path("ferries", "one"))
    seen = space.http.events(space.path("ferries"), 5, resourceVersion=since, labelSelector="x=1")
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    assert seen[2]["object"]["metadata"]["labels"] == {"x": "1", "y": "2"}
    other = space.http.events(
        space.path("ferries"), 1, resourceVersion=since, fieldSelector="metadata.name=two", seconds=1
    )
    assert other == []


def test_other_namespaces_are_not_seen(space: Space) -> None:
    with space.http.watching(
        "/apis/probe.podferry.dev/v1/ferries", fieldSelector=f"metadata.namespace={space.name}"
    ) as events:
        space.create("ferries", ferry("mine"))
        assert _brief([next(events)]) == [("ADDED", "mine")]
    assert space.http.events("/apis/probe.podferry.dev/v1/namespaces/default/ferries", 1, seconds=1) == []


def test_a_streaming_list_ends_with_a_bookmark(space: Space) -> None:
    space.create("ferries", ferry())
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    added, bookmark = space.http.events(space.path("ferries"), 2, **query)
    assert _brief([added]) == [("ADDED", "one")]
    assert (bookmark["type"], bookmark["object"]["kind"]) == ("BOOKMARK", "Ferry")
    metadata = bookmark["object"]["metadata"]
    assert metadata["annotations"] == {"k8s.io/initial-events-end": "true"}
    space.create("ferries", ferry("two"))
    resumed = space.http.events(space.path("ferries"), 1, resourceVersion=metadata["resourceVersion"])
    assert _brief(resumed) == [("ADDED", "two")]


def test_tables_can_be_watched(space: Space) -> None:
    space.create("ferries", ferry("a"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    with space.http.watching(space.path("ferries"), accept=accept) as events:
        first = next(events)
        space.create("ferries", ferry("b"))
        second = next(events)
    assert first["object"]["kind"] == "Table"
    assert [one["name"] for one in first["object"]["columnDefinitions"]] == ["Name", "Harbour", "Ready", "Seats", "Age"]
    assert first["object"]["rows"][0]["cells"][:4] == ["a", "brest", None, 10]
    assert first["object"]["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert not second["object"].get("columnDefinitions")
    assert second["object"]["rows"][0]["cells"][0] == "b"
