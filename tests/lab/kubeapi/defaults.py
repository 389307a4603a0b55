"""The defaults and allocations that clients see in built-in kinds."""

from __future__ import annotations

import base64
import ipaddress
import itertools
from collections.abc import Callable, Iterator

from .errors import Json

SERVICE_RANGE = ipaddress.ip_network("10.96.0.0/16")


def _fill(obj: Json, **defaults: object) -> None:
    for field, value in defaults.items():
        if obj.get(field) is None:
            obj[field] = value


def pod(obj: Json) -> None:
    """Default a pod."""
    pod_spec(obj.setdefault("spec", {}))


def pod_spec(spec: Json) -> None:
    """Default the specification of a pod, also inside a template."""
    _fill(
        spec,
        restartPolicy="Always",
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        terminationGracePeriodSeconds=30,
        securityContext={},
    )
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or []:
        _volume(volume)
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]


def _container(container: Json, *, host_network: bool) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    latest = tag == "latest" or (not tag and "@" not in image)
    _fill(
        container,
        imagePullPolicy="Always" if latest else "IfNotPresent",
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        resources={},
    )
    for port in container.get("ports") or []:
        _fill(port, protocol="TCP")
        if host_network and "containerPort" in port:
            _fill(port, hostPort=port["containerPort"])
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name):
            probe = container[name]
            _fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            if probe.get("httpGet") is not None:
                _fill(probe["httpGet"], path="/", scheme="HTTP")
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            _fill(reference, apiVersion="v1")
    resources = container["resources"]
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}


def _volume(volume: Json) -> None:
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if volume.get(source) is not None:
            _fill(volume[source], defaultMode=420)
    if volume.get("hostPath") is not None:
        _fill(volume["hostPath"], type="")


def new_pod(obj: Json) -> None:
    """Give a new pod what admission and the strategy give it: tolerations, priority, service account, first status."""
    spec = obj["spec"]
    _fill(spec, enableServiceLinks=True, priority=0, preemptionPolicy="PreemptLowerPriority")
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(one.get("key", key) == key and one.get("effect", "NoExecute") == "NoExecute" for one in tolerations):
            tolerations.append({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300})
    obj["status"] = {"phase": "Pending", "qosClass": _qos_class(spec)}


def _qos_class(spec: Json) -> str:
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    resources = [one.get("resources") or {} for one in containers]
    if not any(one.get("requests") or one.get("limits") for one in resources):
        return "BestEffort"
    for one in resources:
        limits, requests = one.get("limits") or {}, one.get("requests") or {}
        if any(name not in limits or requests.get(name, limits[name]) != limits[name] for name in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"


def workload(obj: Json) -> None:
    """Default a Deployment, ReplicaSet or StatefulSet as far as its pods go."""
    spec = obj.setdefault("spec", {})
    _fill(spec, replicas=1)
    if isinstance(spec.get("template"), dict):
        pod_spec(spec["template"].setdefault("spec", {}))


def service(obj: Json) -> None:
    """Default a service."""
    spec = obj.setdefault("spec", {})
    _fill(spec, type="ClusterIP", sessionAffinity="None")
    for port in spec.get("ports") or []:
        _fill(port, protocol="TCP")
        if "port" in port:
            _fill(port, targetPort=port["port"])
    if spec["type"] != "ExternalName":
        anywhere = spec.get("clusterIP") == "None" and not spec.get("selector")
        policy, families = ("RequireDualStack", ["IPv4", "IPv6"]) if anywhere else ("SingleStack", ["IPv4"])
        _fill(spec, internalTrafficPolicy="Cluster", ipFamilyPolicy=policy, ipFamilies=families)
    if spec["type"] in {"LoadBalancer", "NodePort"}:
        _fill(spec, externalTrafficPolicy="Cluster")


def service_allocator(taken: Callable[[], Iterator[Json]]) -> Callable[[Json], None]:
    """Return what gives a new service its address: the first one free among the services that `taken` yields."""

    def prepare(obj: Json) -> None:
        spec = obj["spec"]
        obj["status"] = {"loadBalancer": {}}
        if spec["type"] == "ExternalName":
            return
        if not spec.get("clusterIP"):
            used = {one["spec"].get("clusterIP") for one in taken()}
            hosts = itertools.islice(SERVICE_RANGE.hosts(), 10, None)
            spec["clusterIP"] = next(str(address) for address in hosts if str(address) not in used)
        spec["clusterIPs"] = [spec["clusterIP"]]

    return prepare


def node(obj: Json) -> None:
    """Default a node."""
    obj.setdefault("spec", {})
    status = obj.get("status") or {}
    if status.get("capacity"):
        _fill(status, allocatable=dict(status["capacity"]))


def namespace(obj: Json) -> None:
    """Default a namespace: the label with its name."""
    labels = obj["metadata"].get("labels") or {}
    obj["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": obj["metadata"]["name"]}


def new_namespace(obj: Json) -> None:
    """Give a new namespace its finalizer and phase."""
    obj["spec"] = {"finalizers": ["kubernetes"]}
    obj["status"] = {"phase": "Active"}


def secret(obj: Json) -> None:
    """Default a secret, folding `stringData` into `data`."""
    _fill(obj, type="Opaque")
    plain = obj.pop("stringData", None)
    if plain:
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}
        obj["data"] = {**(obj.get("data") or {}), **encoded}


def endpoint_slice(obj: Json) -> None:
    """Default an EndpointSlice; its lists are null when they are empty, which surprises clients that iterate them."""
    for field in ("endpoints", "ports"):
        obj[field] = obj.get(field) or None
    for port in obj.get("ports") or []:
        _fill(port, name="", protocol="TCP")


def event(obj: Json) -> None:
    """Default an event; times that it does not have are null."""
    _fill(obj, source={}, reportingComponent="", reportingInstance="")
    for field in ("eventTime", "firstTimestamp", "lastTimestamp"):
        obj.setdefault(field, None)
