"""The official Python client: typed, custom, dynamic, and its watches."""

from __future__ import annotations

import threading
from typing import Any

import kubernetes.client
import kubernetes.config
import kubernetes.dynamic
import kubernetes.watch
import pytest
from kubernetes.client.exceptions import ApiException
from tests.support.kube_http import eventually
from tests.support.kube_probe import Space, ferry, pod

# Half of the functions are typed, and those refuse plain dictionaries; both are beside the point here.
client: Any = kubernetes.client
GROUP = ("probe.podferry.dev", "v1")


@pytest.fixture
def api(space: Space) -> Any:
    config: Any = kubernetes.config
    return config.new_client_from_config(str(space.cluster.kubeconfig))


def test_typed_objects(space: Space, api: Any) -> None:
    core = client.CoreV1Api(api)
    made = core.create_namespaced_pod(space.name, pod(nodeName="n"))
    assert made.spec.restart_policy == "Always"
    assert made.metadata.creation_timestamp.tzinfo is not None
    patched = core.patch_namespaced_pod("one", space.name, {"metadata": {"labels": {"a": "b"}}})
    assert patched.metadata.labels == {"a": "b"}
    status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    assert core.patch_namespaced_pod_status("one", space.name, status).status.conditions[0].type == "Ready"
    listed = core.list_namespaced_pod(space.name, label_selector="a=b", field_selector="spec.nodeName=n")
    assert [one.metadata.name for one in listed.items] == ["one"]
    patched.metadata.labels = {"a": "c"}
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_pod("one", space.name, patched)
    assert (stale.value.status, stale.value.reason) == (409, "Conflict")
    core.delete_namespaced_pod("one", space.name, grace_period_seconds=0)
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_pod("one", space.name)
    assert gone.value.status == 404


def test_typed_round_trip(space: Space, api: Any) -> None:
    service = client.V1Service(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1ServiceSpec(selector={"a": "b"}, ports=[client.V1ServicePort(port=80, target_port="http")]),
    )
    core = client.CoreV1Api(api)
    made = core.create_namespaced_service(space.name, service)
    made.spec.selector = {"a": "c"}
    assert core.replace_namespaced_service("web", space.name, made).spec.selector == {"a": "c"}
    slices = client.DiscoveryV1Api(api)
    endpoint = client.V1Endpoint(addresses=["10.1.1.1"], conditions=client.V1EndpointConditions(ready=True))
    body = client.V1EndpointSlice(
        metadata=client.V1ObjectMeta(name="web-1", labels={"kubernetes.io/service-name": "web"}),
        address_type="IPv4",
        endpoints=[endpoint],
        ports=[client.DiscoveryV1EndpointPort(port=80)],
    )
    assert slices.create_namespaced_endpoint_slice(space.name, body).endpoints[0].addresses == ["10.1.1.1"]


def test_custom_objects(space: Space, api: Any) -> None:
    custom = client.CustomObjectsApi(api)
    where = (*GROUP, space.name, "ferries")
    made = custom.create_namespaced_custom_object(*where, ferry())
    assert made["spec"]["seats"] == 10
    patched = custom.patch_namespaced_custom_object(*where, "one", {"spec": {"seats": 11}})
    assert patched["spec"]["seats"] == 11
    operations = [{"op": "replace", "path": "/spec/seats", "value": 12}]
    patched = custom.patch_namespaced_custom_object(
        *where, "one", operations, _content_type="application/json-patch+json"
    )
    assert patched["spec"]["seats"] == 12
    custom.patch_namespaced_custom_object_status(*where, "one", {"status": {"passengers": 3}})
    assert custom.list_namespaced_custom_object(*where)["items"][0]["status"] == {"passengers": 3}
    with pytest.raises(ApiException) as refused:
        custom.patch_namespaced_custom_object(*where, "one", {"spec": {"seats": 0}})
    assert (refused.value.status, "spec.seats" in str(refused.value.body)) == (422, True)
    custom.delete_namespaced_custom_object(*where, "one")


def test_watches(space: Space, api: Any) -> None:
    core, seen = client.CoreV1Api(api), list[tuple[str, str]]()
    watch: Any = kubernetes.watch

    def follow() -> None:
        stream = watch.Watch()
        for event in stream.stream(core.list_namespaced_pod, space.name, timeout_seconds=15):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                stream.stop()

    follower = threading.Thread(target=follow)
    follower.start()
    core.create_namespaced_pod(space.name, pod("a"))
    eventually(lambda: ("ADDED", "a") in seen)
    core.delete_namespaced_pod("a", space.name)
    follower.join(20)
    assert seen[-1] == ("DELETED", "a")


def test_the_dynamic_client(space: Space, api: Any) -> None:
    library: Any = kubernetes.dynamic
    dynamic = library.DynamicClient(api)
    ferries = dynamic.resources.get(api_version="probe.podferry.dev/v1", kind="Ferry")
    made = ferries.create(body=ferry(), namespace=space.name)
    assert made.spec.seats == 10
    assert [one.metadata.name for one in ferries.get(namespace=space.name).items] == ["one"]
    ferries.delete(name="one", namespace=space.name)
