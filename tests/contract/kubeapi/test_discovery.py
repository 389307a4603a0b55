"""What the API says that it serves, and in which forms."""

from __future__ import annotations

from tests.support.kube_http import Json
from tests.support.kube_probe import Cluster

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def test_versions_and_groups(cluster: Cluster) -> None:
    assert cluster.http.expect(200, "GET", "/api")["versions"] == ["v1"]
    groups = {one["name"]: one for one in cluster.http.expect(200, "GET", "/apis")["groups"]}
    assert groups["probe.podferry.dev"]["preferredVersion"] == {
        "groupVersion": "probe.podferry.dev/v1",
        "version": "v1",
    }
    own = cluster.http.expect(200, "GET", "/apis/probe.podferry.dev")
    assert (own["kind"], own["versions"]) == ("APIGroup", groups["probe.podferry.dev"]["versions"])
    for name in (
        "apps",
        "discovery.k8s.io",
        "coordination.k8s.io",
        "events.k8s.io",
        "node.k8s.io",
        "apiextensions.k8s.io",
    ):
        assert groups[name]["preferredVersion"]["version"] == "v1"
    assert int(cluster.http.expect(200, "GET", "/version")["minor"].rstrip("+")) >= 30
    for path in ("/healthz", "/livez", "/readyz"):
        assert cluster.http.expect(200, "GET", path)["text"] == "ok"


def _listed(cluster: Cluster, path: str) -> dict[str, Json]:
    return {one["name"]: one for one in cluster.http.expect(200, "GET", path)["resources"]}


def test_kinds_of_a_version(cluster: Cluster) -> None:
    ferries = _listed(cluster, "/apis/probe.podferry.dev/v1")
    entry = ferries["ferries"]
    expected = {
        "singularName": "ferry",
        "namespaced": True,
        "kind": "Ferry",
        "shortNames": ["fy"],
        "categories": ["all"],
    }
    assert expected.items() <= entry.items()
    assert set(entry["verbs"]) == {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    assert set(ferries["ferries/status"]["verbs"]) == {"get", "patch", "update"}
    core = _listed(cluster, "/api/v1")
    for name, kind, namespaced, short in (
        ("pods", "Pod", True, ["po"]),
        ("nodes", "Node", False, ["no"]),
        ("services", "Service", True, ["svc"]),
        ("configmaps", "ConfigMap", True, ["cm"]),
    ):
        assert (core[name]["kind"], core[name]["namespaced"], core[name]["shortNames"]) == (kind, namespaced, short)
        assert core[name]["singularName"] == kind.lower()
    assert "pods/status" in core


def test_aggregated_discovery(cluster: Cluster) -> None:
    for path, group, plural in (("/api", "", "pods"), ("/apis", "probe.podferry.dev", "ferries")):
        answer = cluster.http.call("GET", path, accept=f"{AGGREGATED},application/json")
        assert answer.headers["Content-Type"] == AGGREGATED
        assert answer.body["kind"] == "APIGroupDiscoveryList"
        found = next(one for one in answer.body["items"] if one["metadata"].get("name", "") == group)
        version = found["versions"][0]
        assert version["version"] == "v1"
        kind = next(one for one in version["resources"] if one["resource"] == plural)
        assert kind["scope"] == "Namespaced"
        assert {"subresource", "responseKind", "verbs"} <= kind["subresources"][-1].keys()


def test_openapi_describes_the_custom_kind(cluster: Cluster) -> None:
    where = cluster.http.expect(200, "GET", "/openapi/v3")["paths"]["apis/probe.podferry.dev/v1"]["serverRelativeURL"]
    path, _, query = where.partition("?")
    name, _, value = query.partition("=")
    document = cluster.http.expect(200, "GET", path, **{name: value})
    gvk = {"group": "probe.podferry.dev", "kind": "Ferry", "version": "v1"}
    schemas = document["components"]["schemas"].values()
    own = [one for one in schemas if gvk in one.get("x-kubernetes-group-version-kind", [])]
    assert own[0]["properties"]["spec"]["properties"]["harbour"]["description"] == "where it lies"
    patch = document["paths"][f"{path.removeprefix('/openapi/v3')}/namespaces/{{namespace}}/ferries/{{name}}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == gvk
    assert "fieldValidation" in [one["name"] for one in patch["parameters"]]
