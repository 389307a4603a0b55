"""Create, read, update: identity, revisions, generations, what each endpoint may change."""

from __future__ import annotations

import pytest
from tests.support.kube_http import APPLY, JSON_PATCH, MERGE, STRATEGIC, Answer
from tests.support.kube_probe import Space, config_map, ferry, pod


def test_a_created_object_gets_identity(space: Space) -> None:
    made = space.create("ferries", ferry())
    metadata = made["metadata"]
    assert metadata["namespace"] == space.name
    assert metadata["generation"] == 1
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"].endswith("Z")
    assert int(metadata["resourceVersion"]) > 0
    found = space.http.expect(200, "GET", space.path("ferries", "one"))
    assert {**found["metadata"], "managedFields": None} == {**metadata, "managedFields": None}


def test_generate_name(space: Space) -> None:
    body = config_map()
    body["metadata"] = {"generateName": "some-"}
    first, second = (
        space.create("configmaps", dict(body, metadata=dict(body["metadata"])))["metadata"]["name"] for _ in "ab"
    )
    assert first.startswith("some-")
    assert len(first) == len("some-") + 5
    assert first != second


def test_what_creation_refuses(space: Space) -> None:
    post = space.path("configmaps")
    space.create("configmaps", config_map())
    twice = space.http.call("POST", post, config_map())
    assert (twice.status, twice.reason) == (409, "AlreadyExists")
    assert twice.body["details"] == {"name": "one", "kind": "configmaps"}
    bad_name = space.http.call("POST", post, config_map("Not_A_Name"))
    assert (bad_name.status, bad_name.reason, bad_name.causes) == (
        422,
        "Invalid",
        {("FieldValueInvalid", "metadata.name")},
    )
    nameless = space.http.call("POST", post, {"metadata": {}})
    assert (nameless.status, nameless.causes) == (422, {("FieldValueRequired", "metadata.name")})
    body = config_map("two")
    body["metadata"]["resourceVersion"] = "1"
    assert space.http.call("POST", post, body).status in {400, 500}
    elsewhere = config_map("two")
    elsewhere["metadata"]["namespace"] = "default"
    assert space.http.call("POST", post, elsewhere).status == 400
    assert space.http.call("POST", post, ferry("two")).status == 400
    nowhere = space.http.call("POST", "/api/v1/namespaces/no-such-namespace/configmaps", config_map())
    assert (nowhere.status, nowhere.reason) == (404, "NotFound")
    assert nowhere.body["details"]["kind"] == "namespaces"


def test_missing_things_are_404(space: Space) -> None:
    missing = space.http.call("GET", space.path("ferries", "none"))
    assert (missing.status, missing.reason) == (404, "NotFound")
    assert missing.body["details"] == {"name": "none", "group": "probe.podferry.dev", "kind": "ferries"}
    assert missing.body["message"] == 'ferries.probe.podferry.dev "none" not found'
    for path in (f"/api/v1/namespaces/{space.name}/nothings", "/apis/no.such.group/v1/things"):
        assert space.http.call("GET", path).status == 404
    assert space.http.call("GET", space.path("configmaps", "one") + "/status").status in {404, 405}


def test_a_stale_write_is_a_conflict(space: Space) -> None:
    for plural, body in (("configmaps", config_map()), ("ferries", ferry())):
        made = space.create(plural, body)
        path = space.path(plural, "one")
        newer = {**made, "metadata": {**made["metadata"], "labels": {"a": "b"}}}
        space.http.expect(200, "PUT", path, newer)
        stale = space.http.call("PUT", path, made)
        assert (stale.status, stale.reason) == (409, "Conflict")
        patch = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"], "labels": {"c": "d"}}}
        assert space.http.call("PATCH", path, patch, kind=MERGE).status == 409


def test_an_update_without_a_revision(space: Space) -> None:
    space.create("configmaps", config_map())
    space.http.expect(200, "PUT", space.path("configmaps", "one"), config_map(a="b"))
    space.create("ferries", ferry())
    refused = space.http.call("PUT", space.path("ferries", "one"), ferry(seats=3))
    assert (refused.status, refused.causes) == (422, {("FieldValueInvalid", "metadata.resourceVersion")})


def test_an_update_keeps_what_is_the_servers(space: Space) -> None:
    made = space.create("ferries", ferry())
    changed = {**made, "metadata": {"name": "one", "resourceVersion": made["metadata"]["resourceVersion"]}}
    after = space.http.expect(200, "PUT", space.path("ferries", "one"), changed)
    for field in ("uid", "creationTimestamp", "generation", "namespace"):
        assert after["metadata"][field] == made["metadata"][field]
    other = {**made, "metadata": {**after["metadata"], "uid": "11111111-1111-1111-1111-111111111111"}}
    assert space.http.call("PUT", space.path("ferries", "one"), other).status == 409
    assert space.http.call("PUT", space.path("ferries", "two"), after).status == 400


def test_a_write_that_changes_nothing_is_no_write(space: Space) -> None:
    made = space.create("ferries", ferry())
    again = space.http.expect(200, "PUT", space.path("ferries", "one"), made)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    same = space.http.expect(200, "PATCH", space.path("ferries", "one"), {"spec": {"seats": 10}}, kind=MERGE)
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_generation_follows_the_spec_alone(space: Space) -> None:
    space.create("ferries", ferry())
    path = space.path("ferries", "one")
    labelled = space.http.expect(200, "PATCH", path, {"metadata": {"labels": {"a": "b"}}}, kind=MERGE)
    assert labelled["metadata"]["generation"] == 1
    reported = space.http.expect(200, "PATCH", f"{path}/status", {"status": {"passengers": 1}}, kind=MERGE)
    assert reported["metadata"]["generation"] == 1
    changed = space.http.expect(200, "PATCH", path, {"spec": {"seats": 11}}, kind=MERGE)
    assert changed["metadata"]["generation"] == 2


def test_status_and_spec_have_an_endpoint_each(space: Space) -> None:
    made = space.create("ferries", {**ferry(), "status": {"passengers": 5}})
    assert "status" not in made
    path = space.path("ferries", "one")
    assert "status" not in space.http.expect(200, "PATCH", path, {"status": {"passengers": 5}}, kind=MERGE)
    patch = {"metadata": {"labels": {"a": "b"}}, "spec": {"seats": 11}, "status": {"passengers": 5}}
    after = space.http.expect(200, "PATCH", f"{path}/status", patch, kind=MERGE)
    assert after["status"] == {"passengers": 5}
    assert after["spec"]["seats"] == 10
    assert "labels" not in after["metadata"]
    assert space.http.expect(200, "GET", f"{path}/status")["status"] == {"passengers": 5}
    changed = space.http.expect(200, "PATCH", path, {"spec": {"seats": 11}, "status": None}, kind=MERGE)
    assert changed["status"] == {"passengers": 5}


def test_merge_patch(space: Space) -> None:
    space.create("configmaps", config_map(a="1", b="2"))
    path = space.path("configmaps", "one")
    after = space.http.expect(200, "PATCH", path, {"data": {"a": None, "c": "3"}}, kind=MERGE)
    assert after["data"] == {"b": "2", "c": "3"}
    assert space.http.call("PATCH", space.path("configmaps", "none"), {"data": {}}, kind=MERGE).status == 404


def test_json_patch(space: Space) -> None:
    made = space.create("ferries", ferry())
    path = space.path("ferries", "one")
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
        {"op": "add", "path": "/metadata/finalizers", "value": ["probe.podferry.dev/hold"]},
        {"op": "replace", "path": "/spec/seats", "value": 12},
    ]
    after = space.http.expect(200, "PATCH", path, operations, kind=JSON_PATCH)
    assert after["metadata"]["finalizers"] == ["probe.podferry.dev/hold"]
    assert after["spec"]["seats"] == 12
    stale = space.http.call("PATCH", path, operations, kind=JSON_PATCH)
    assert (stale.status, stale.reason) == (422, "Invalid")
    gone = [{"op": "remove", "path": "/spec/never"}]
    assert space.http.call("PATCH", path, gone, kind=JSON_PATCH).status == 422
    assert space.http.call("PATCH", path, {"not": "a list"}, kind=JSON_PATCH).status == 400
    drop = [{"op": "remove", "path": "/metadata/finalizers"}]
    assert "finalizers" not in space.http.expect(200, "PATCH", path, drop, kind=JSON_PATCH)["metadata"]


def test_strategic_patch_merges_lists_by_key(space: Space) -> None:
    body = pod()
    body["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    space.create("pods", body)
    path = space.path("pods", "one")
    patch = {"spec": {"containers": [{"name": "main", "image": "busybox:1.37"}]}}
    after = space.http.expect(200, "PATCH", path, patch, kind=STRATEGIC)
    assert after["spec"]["containers"][0]["image"] == "busybox:1.37"
    assert after["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    for kind, value in (("Ready", "False"), ("Initialized", "True"), ("Ready", "True")):
        condition = {"type": kind, "status": value}
        status = {"status": {"conditions": [condition], "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}
        after = space.http.expect(200, "PATCH", f"{path}/status", status, kind=STRATEGIC)
    seen = {one["type"]: one["status"] for one in after["status"]["conditions"]}
    assert seen == {"Ready": "True", "Initialized": "True"}
    drop = {"status": {"conditions": [{"type": "Initialized", "$patch": "delete"}]}}
    after = space.http.expect(200, "PATCH", f"{path}/status", drop, kind=STRATEGIC)
    assert [one["type"] for one in after["status"]["conditions"]] == ["Ready"]


def test_custom_kinds_take_no_strategic_patch(space: Space) -> None:
    space.create("ferries", ferry())
    refused = space.http.call("PATCH", space.path("ferries", "one"), {"spec": {}}, kind=STRATEGIC)
    assert (refused.status, refused.reason) == (415, "UnsupportedMediaType")


@pytest.mark.parametrize(("plural", "body"), [("configmaps", config_map()), ("ferries", ferry())])
def test_dry_run_stores_nothing(space: Space, plural: str, body: dict[str, object]) -> None:
    shown = space.http.expect(201, "POST", space.path(plural), body, dryRun="All")
    assert shown["metadata"]["uid"]
    assert space.http.call("GET", space.path(plural, "one")).status == 404
    made = space.create(plural, body)
    patch = {"metadata": {"labels": {"a": "b"}}}
    shown = space.http.expect(200, "PATCH", space.path(plural, "one"), patch, kind=MERGE, dryRun="All")
    assert shown["metadata"]["labels"] == {"a": "b"}
    assert space.http.call("DELETE", space.path(plural, "one"), dryRun="All").status == 200
    found = space.http.expect(200, "GET", space.path(plural, "one"))
    assert found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_lists(space: Space) -> None:
    for name in ("c", "a", "b"):
        space.create("ferries", ferry(name))
        space.create("configmaps", config_map(name))
    listed = space.http.expect(200, "GET", space.path("ferries"))
    assert (listed["kind"], listed["apiVersion"]) == ("FerryList", "probe.podferry.dev/v1")
    assert [one["metadata"]["name"] for one in listed["items"]] == ["a", "b", "c"]
    assert listed["items"][0]["kind"] == "Ferry"
    assert int(listed["metadata"]["resourceVersion"]) >= int(listed["items"][2]["metadata"]["resourceVersion"])
    maps = [
        one
        for one in space.http.expect(200, "GET", space.path("configmaps"))["items"]
        if len(one["metadata"]["name"]) == 1
    ]
    assert "kind" not in maps[0]
    page = space.http.expect(200, "GET", space.path("ferries"), limit="2")
    assert [one["metadata"]["name"] for one in page["items"]] == ["a", "b"]
    assert page["metadata"]["remainingItemCount"] == 1
    more = {"continue": page["metadata"]["continue"]}
    rest = space.http.expect(200, "GET", space.path("ferries"), limit="2", **more)
    assert [one["metadata"]["name"] for one in rest["items"]] == ["c"]
    assert not rest["metadata"].get("continue")


def test_selectors(space: Space) -> None:
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "2", "y": ""}), ("c", {})):
        body = ferry(name, harbour="brest" if name == "a" else "calais")
        body["metadata"]["labels"] = labels
        space.create("ferries", body)

    def names(**query: str) -> str:
        found = space.http.expect(200, "GET", space.path("ferries"), **query)["items"]
        return "".join(one["metadata"]["name"] for one in found)

    for selector, expected in {
        "x=1": "a", "x==2": "b", "x!=1": "bc", "x": "ab", "!x": "c", "y": "b", "x in (1,2),!y": "a",
        "x notin (1)": "bc", "x=": "", "y=": "b", "x in (1, 3)": "a",
    }.items():  # fmt: skip
        assert names(labelSelector=selector) == expected, selector
    assert names(fieldSelector="metadata.name=b") == "b"
    assert names(fieldSelector="metadata.name!=b") == "ac"
    assert names(fieldSelector="spec.harbour=calais") == "bc"
    assert space.http.call("GET", space.path("ferries"), fieldSelector="spec.seats=1").status == 400
    assert space.http.call("GET", space.path("ferries"), labelSelector="x in (").status == 400


def _apply(space: Space, body: dict[str, object], manager: str, **query: str) -> Answer:
    path = space.path("ferries", "one")
    return space.http.call("PATCH", path, body, kind=APPLY, fieldManager=manager, **query)


def test_server_side_apply(space: Space) -> None:
    body = ferry(seats=5, decks=[{"name": "upper"}], labels={"a": "1"})
    made = _apply(space, body, "first")
    assert made.status == 201
    assert made.body["spec"]["kind"] == "Car"
    assert [one["manager"] for one in made.body["metadata"]["managedFields"]] == ["first"]
    again = _apply(space, body, "first")
    assert again.status == 200
    assert again.body["metadata"]["resourceVersion"] == made.body["metadata"]["resourceVersion"]
    other = _apply(space, ferry(decks=[{"name": "lower"}], labels={"b": "2"}), "second")
    assert other.status == 200
    assert [one["name"] for one in other.body["spec"]["decks"]] == ["upper", "lower"]
    assert other.body["spec"]["labels"] == {"a": "1", "b": "2"}
    disputed = _apply(space, ferry(seats=6), "second")
    assert (disputed.status, disputed.reason) == (409, "Conflict")
    assert disputed.causes == {("FieldManagerConflict", ".spec.seats")}
    forced = _apply(space, ferry(seats=6), "second", force="true")
    assert forced.body["spec"]["seats"] == 6
    assert [one["name"] for one in forced.body["spec"]["decks"]] == ["upper"]
    assert forced.body["spec"]["labels"] == {"a": "1"}
    less = _apply(space, ferry(), "first")
    assert "labels" not in less.body["spec"]
    assert not less.body["spec"].get("decks")
    assert less.body["spec"]["seats"] == 6
    nobody = space.http.call("PATCH", space.path("ferries", "one"), ferry(), kind=APPLY)
    assert nobody.status in {400, 422}


def test_applying_over_what_others_wrote(space: Space) -> None:
    space.http.expect(201, "POST", space.path("ferries"), ferry(seats=5), fieldManager="writer")
    assert _apply(space, ferry(seats=5), "first").status == 200
    assert _apply(space, ferry(seats=7), "first").status == 409
    patch = {"spec": {"seats": 8}}
    space.http.expect(200, "PATCH", space.path("ferries", "one"), patch, kind=MERGE, fieldManager="writer")
    disputed = _apply(space, ferry(seats=5), "first")
    assert (disputed.status, disputed.causes) == (409, {("FieldManagerConflict", ".spec.seats")})
    assert _apply(space, ferry(), "first").body["spec"]["seats"] == 8
