"""Validation, defaulting and pruning of custom kinds; what built-in kinds default and refuse."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from tests.support.kube_http import MERGE, eventually
from tests.support.kube_probe import DATA, Cluster, Space, ferry, pod

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def test_defaults_are_filled_in(space: Space) -> None:
    body = ferry(decks=[{"name": "upper"}, {"name": "lower", "height": 3}], engine={})
    spec = space.create("ferries", body)["spec"]
    assert (spec["kind"], spec["seats"], spec["engine"]) == ("Car", 10, {"power": 100})
    assert spec["decks"] == [{"name": "upper", "height": 2}, {"name": "lower", "height": 3}]
    assert space.create("ferries", ferry("two"))["spec"]["engine"] == {"power": 100}
    after = space.http.expect(200, "PATCH", space.path("ferries", "one"), {"spec": {"seats": None}}, kind=MERGE)
    assert after["spec"]["seats"] == 10


def test_unknown_fields_are_dropped_or_refused(space: Space) -> None:
    body = ferry(speed=30, free={"any": {"thing": 1}})
    body["more"] = {}
    answer = space.http.call("POST", space.path("ferries"), body)
    assert answer.status == 201
    assert "speed" not in answer.body["spec"]
    assert "more" not in answer.body
    assert answer.body["spec"]["free"] == {"any": {"thing": 1}}
    assert 'unknown field \\"spec.speed\\"' in answer.headers["Warning"]
    body["metadata"] = {"name": "two"}
    refused = space.http.call("POST", space.path("ferries"), body, fieldValidation="Strict")
    assert (refused.status, refused.reason) == (400, "BadRequest")
    assert 'strict decoding error: unknown field "more", unknown field "spec.speed"' in refused.body["message"]
    quiet = space.http.call("POST", space.path("ferries"), body, fieldValidation="Ignore")
    assert quiet.status == 201
    assert "Warning" not in quiet.headers
    patch = {"spec": {"speed": 3}}
    refused = space.http.call("PATCH", space.path("ferries", "one"), patch, kind=MERGE, fieldValidation="Strict")
    assert refused.status in {400, 422}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"harbour": ""}, ("FieldValueInvalid", "spec.harbour")),
        ({"harbour": "Brest"}, ("FieldValueInvalid", "spec.harbour")),
        ({"harbour": "x" * 21}, ("FieldValueTooLong", "spec.harbour")),
        ({"harbour": 1}, ("FieldValueTypeInvalid", "spec.harbour")),
        ({"harbour": None}, ("FieldValueRequired", "spec.harbour")),
        ({"kind": "Air"}, ("FieldValueNotSupported", "spec.kind")),
        ({"seats": 0}, ("FieldValueInvalid", "spec.seats")),
        ({"seats": 1001}, ("FieldValueInvalid", "spec.seats")),
        ({"seats": "ten"}, ("FieldValueTypeInvalid", "spec.seats")),
        ({"seats": 1.5}, ("FieldValueTypeInvalid", "spec.seats")),
        ({"port": []}, ("FieldValueTypeInvalid", "spec.port")),
        ({"departs": "tomorrow"}, ("FieldValueTypeInvalid", "spec.departs")),
        ({"tags": ["a", "a"]}, ("FieldValueDuplicate", "spec.tags[1]")),
        ({"tags": ["a", "b", "c", "d"]}, ("FieldValueTooMany", "spec.tags")),
        ({"decks": [{"height": 1}]}, ("FieldValueRequired", "spec.decks[0].name")),
        ({"decks": [{"name": "a"}, {"name": "a"}]}, ("FieldValueDuplicate", "spec.decks[1]")),
        ({"labels": {"a": 1}}, ("FieldValueTypeInvalid", "spec.labels.a")),
        ({"crew": 11}, ("FieldValueInvalid", "spec")),
    ],
    ids=str,
)
def test_what_the_schema_refuses(space: Space, change: dict[str, Any], cause: tuple[str, str]) -> None:
    answer = space.http.call("POST", space.path("ferries"), ferry(**change))
    assert (answer.status, answer.reason) == (422, "Invalid"), answer.body
    assert cause in answer.causes


def test_what_the_schema_accepts(space: Space) -> None:
    changes: list[dict[str, Any]] = [
        {"port": 80},
        {"port": "http"},
        {"note": None},
        {"departs": "2030-01-01T00:00:00Z"},
        {"crew": 10},
        {"tags": []},
    ]
    for index, change in enumerate(changes):
        made = space.create("ferries", ferry(f"f{index}", **change))
        assert change.items() <= made["spec"].items()


def test_a_missing_spec_is_refused(space: Space) -> None:
    body = ferry()
    del body["spec"]
    answer = space.http.call("POST", space.path("ferries"), body)
    assert answer.status == 422
    assert ("FieldValueRequired", "spec") in answer.causes


def test_rules_compare_with_the_old_object(space: Space) -> None:
    space.create("ferries", ferry())
    answer = space.http.call("PATCH", space.path("ferries", "one"), {"spec": {"harbour": "calais"}}, kind=MERGE)
    assert (answer.status, answer.causes) == (422, {("FieldValueInvalid", "spec.harbour")})
    assert "harbour is immutable" in answer.body["message"]
    answer = space.http.call("PATCH", space.path("ferries", "one"), {"spec": {"crew": 99}}, kind=MERGE)
    assert "crew must fit" in answer.body["message"]


def test_the_status_is_validated_too(space: Space) -> None:
    space.create("ferries", ferry())
    path = space.path("ferries", "one") + "/status"
    answer = space.http.call("PATCH", path, {"status": {"passengers": -1}}, kind=MERGE)
    assert (answer.status, answer.causes) == (422, {("FieldValueInvalid", "status.passengers")})


def _definition(**version: Any) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((DATA / "definition.yaml").read_text())
    body["metadata"]["name"] = "barges.probe.podferry.dev"
    body["spec"]["names"] = {"plural": "barges", "kind": "Barge"}
    body["spec"]["versions"][0] |= version
    return body


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"properties": {"a": {"type": "string"}}}}}},
        {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "array"}}}},
        {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": {"type": "object", "x-kubernetes-validations": [{"rule": "self.("}]}},
            }
        },
    ],
    ids=["none", "untyped", "no items", "bad rule"],
)
def test_unusable_definitions_are_refused(cluster: Cluster, schema: dict[str, Any] | None) -> None:
    answer = cluster.http.call("POST", DEFINITIONS, _definition(schema=schema))
    assert (answer.status, answer.reason) == (422, "Invalid"), answer.body


def test_a_definition_must_be_named_after_its_kind(cluster: Cluster) -> None:
    body = _definition()
    body["metadata"]["name"] = "other.probe.podferry.dev"
    answer = cluster.http.call("POST", DEFINITIONS, body)
    assert (answer.status, answer.causes) == (422, {("FieldValueInvalid", "metadata.name")})


def test_a_definition_comes_and_goes(cluster: Cluster, space: Space) -> None:
    if not cluster.collects_garbage:
        pytest.skip("needs kube-controller-manager")
    cluster.http.expect(201, "POST", DEFINITIONS, _definition())
    path, own = "/apis/probe.podferry.dev/v1", f"{DEFINITIONS}/barges.probe.podferry.dev"
    barges = f"{path}/namespaces/{space.name}/barges"
    eventually(lambda: cluster.http.call("GET", barges).status == 200)
    found = cluster.http.expect(200, "GET", own)
    assert found["spec"]["names"]["singular"] == "barge"
    assert found["status"]["acceptedNames"]["listKind"] == "BargeList"
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert found["status"]["storedVersions"] == ["v1"]
    body = ferry() | {"kind": "Barge"}
    cluster.http.expect(201, "POST", barges, body)
    assert "barges" in [one["name"] for one in cluster.http.expect(200, "GET", path)["resources"]]
    cluster.http.expect(200, "DELETE", own)
    eventually(lambda: cluster.http.call("GET", own).status == 404)
    eventually(lambda: cluster.http.call("GET", barges).status == 404)
    listed = cluster.http.expect(200, "GET", path)["resources"]
    assert "barges" not in [one["name"] for one in listed]


def test_pods_are_defaulted(space: Space) -> None:
    container = {
        "name": "main",
        "image": "busybox",
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}},
    }
    container["resources"] = {"limits": {"cpu": 1, "memory": "64Mi"}}
    volumes = [{"name": "scratch"}, {"name": "config", "configMap": {"name": "c", "optional": True}}]
    made = space.create("pods", pod(containers=[container], volumes=volumes))
    spec, main = made["spec"], made["spec"]["containers"][0]
    expected = {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "enableServiceLinks": True,
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    assert {key: spec.get(key) for key in expected} == expected
    assert [one["key"] for one in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert main["imagePullPolicy"] == "Always"
    assert main["terminationMessagePath"] == "/dev/termination-log"
    assert main["terminationMessagePolicy"] == "File"
    assert main["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert main["resources"] == {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}}
    assert main["readinessProbe"] == {
        "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert spec["volumes"][0] == {"name": "scratch", "emptyDir": {}}
    assert spec["volumes"][1]["configMap"]["defaultMode"] == 420
    assert made["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}
    assert made["metadata"]["generation"] == 1
    tagged = space.create("pods", pod("two"))
    assert tagged["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert tagged["status"]["qosClass"] == "BestEffort"


def test_pods_are_checked(space: Space) -> None:
    post = space.path("pods")
    for body, field in (
        (pod(containers=[]), "spec.containers"),
        (pod(containers=[{"name": "a"}]), "spec.containers[0].image"),
        (pod(containers=[{"image": "a"}]), "spec.containers[0].name"),
    ):
        answer = space.http.call("POST", post, body)
        assert (answer.status, ("FieldValueRequired", field) in answer.causes) == (422, True), answer.body
    assert space.http.call("POST", post, pod(hostNetwork="yes")).status == 400
    strict = space.http.call("POST", post, pod(hostNetwrk=True), fieldValidation="Strict")
    assert (strict.status, 'unknown field "spec.hostNetwrk"' in strict.body["message"]) == (400, True)
    space.create("pods", pod())
    path = space.path("pods", "one")
    for change in ({"nodeName": "other"}, {"restartPolicy": "Never"}, {"hostname": "other"}):
        answer = space.http.call("PATCH", path, {"spec": change}, kind=MERGE)
        assert (answer.status, answer.causes) == (422, {("FieldValueForbidden", "spec")}), answer.body


def test_services_get_an_address(space: Space) -> None:
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}
    made = space.create("services", body)
    spec = made["spec"]
    assert spec["type"] == "ClusterIP"
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert spec["clusterIP"].startswith("10.96.")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["sessionAffinity"], spec["ipFamilies"], spec["ipFamilyPolicy"]) == ("None", ["IPv4"], "SingleStack")
    assert made["status"] == {"loadBalancer": {}}
    other = space.create("services", {**body, "metadata": {"name": "web2"}})
    assert other["spec"]["clusterIP"] != spec["clusterIP"]
    path = space.path("services", "web")
    moved = space.http.call(
        "PATCH", path, {"spec": {"clusterIP": "10.96.77.77", "clusterIPs": ["10.96.77.77"]}}, kind=MERGE
    )
    assert moved.status == 422
    headless = {"metadata": {"name": "deaf"}, "spec": {"clusterIP": "None"}}
    headless_spec = space.create("services", headless)["spec"]
    assert (headless_spec["clusterIPs"], headless_spec["ipFamilies"]) == (["None"], ["IPv4", "IPv6"])
    portless = space.http.call("POST", space.path("services"), {"metadata": {"name": "no"}, "spec": {}})
    assert (portless.status, portless.causes) == (422, {("FieldValueRequired", "spec.ports")})
    freed = space.http.expect(200, "PUT", path, {**body, "metadata": {"name": "web"}})
    assert freed["spec"]["clusterIP"] == spec["clusterIP"]


def test_other_kinds(space: Space) -> None:
    secret = space.create("secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    assert (secret["type"], base64.b64decode(secret["data"]["a"])) == ("Opaque", b"b")
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{space.name}/endpointslices"
    body = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [], "ports": [{"port": 1}]}
    made = space.http.expect(201, "POST", slices, body)
    assert made["ports"] == [{"name": "", "port": 1, "protocol": "TCP"}]
    assert made["endpoints"] is None  # not an empty list: who iterates it must know
    assert made["metadata"]["generation"] == 1
    assert space.http.call("PATCH", f"{slices}/s", {"addressType": "IPv6"}, kind=MERGE).status == 422
    more = space.http.expect(200, "PATCH", f"{slices}/s", {"endpoints": [{"addresses": ["10.1.1.1"]}]}, kind=MERGE)
    assert more["metadata"]["generation"] == 2
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{space.name}/leases"
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 40}}
    space.http.expect(201, "PUT", f"{leases}/l", lease)
    classes = "/apis/node.k8s.io/v1/runtimeclasses"
    name = f"rc-{space.name}"
    space.http.expect(201, "POST", classes, {"metadata": {"name": name}, "handler": "runc"})
    assert space.http.call("PATCH", f"{classes}/{name}", {"handler": "crun"}, kind=MERGE).status == 422
    space.http.expect(200, "DELETE", f"{classes}/{name}")


def test_events_have_two_faces(space: Space) -> None:
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "namespace": space.name, "name": "one"},
        "reason": "Moved",
        "message": "it moved",
        "type": "Normal",
        "reportingComponent": "probe",
    }
    assert space.create("events", event)["lastTimestamp"] is None
    found = space.http.expect(200, "GET", f"/apis/events.k8s.io/v1/namespaces/{space.name}/events/e")
    assert (found["regarding"]["name"], found["note"], found["reportingController"]) == ("one", "it moved", "probe")
    listed = space.http.expect(200, "GET", space.path("events"), fieldSelector="involvedObject.name=one,reason=Moved")
    assert [one["metadata"]["name"] for one in listed["items"]] == ["e"]
    misplaced = event | {
        "metadata": {"name": "f"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "one"},
    }
    assert space.http.call("POST", space.path("events"), misplaced).status in {400, 422}
