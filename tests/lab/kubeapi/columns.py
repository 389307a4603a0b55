"""What `kubectl get` shows of the built-in kinds."""

from __future__ import annotations

from typing import Any

from .errors import Json
from .resources import Column
from .tables import AGE, NAME, age

NONE, UNKNOWN = "<none>", "<unknown>"


def _wide(column: Column) -> Column:
    return Column(column.name, column.cell, column.type, column.format, 1, column.description)


def _join(values: Any) -> str:
    return ",".join(str(value) for value in values) or NONE


def _pairs(labels: Json | None) -> str:
    return _join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def _condition(obj: Json, kind: str) -> Json | None:
    return next((one for one in obj.get("status", {}).get("conditions") or [] if one["type"] == kind), None)


# -- pods


def _container_statuses(pod: Json) -> list[Json]:
    return pod.get("status", {}).get("containerStatuses") or []


def _pod_ready(pod: Json) -> str:
    ready = sum(bool(one.get("ready")) for one in _container_statuses(pod))
    return f"{ready}/{len(pod['spec'].get('containers', []))}"


def _pod_status(pod: Json) -> str:
    status = pod.get("status", {})
    text = status.get("reason") or status.get("phase", "Unknown")
    for one in reversed(_container_statuses(pod)):
        state = one.get("state", {})
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            text = waiting["reason"]
        elif ended:
            text = ended.get("reason") or f"ExitCode:{ended.get('exitCode', 0)}"
    if pod["metadata"].get("deletionTimestamp") and status.get("phase") not in {"Succeeded", "Failed"}:
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(text)


def _pod_restarts(pod: Json) -> str:
    total = sum(one.get("restartCount", 0) for one in _container_statuses(pod))
    ended = [
        one["lastState"]["terminated"]["finishedAt"]
        for one in _container_statuses(pod)
        if one.get("lastState", {}).get("terminated", {}).get("finishedAt")
    ]
    return f"{total} ({age(max(ended))} ago)" if total and ended else str(total)


def _pod_ip(pod: Json) -> str:
    addresses = pod.get("status", {}).get("podIPs") or []
    return str(addresses[0]["ip"] if addresses else pod.get("status", {}).get("podIP") or NONE)


def _gates(pod: Json) -> str:
    gates = pod["spec"].get("readinessGates") or []
    met = sum((_condition(pod, gate["conditionType"]) or {}).get("status") == "True" for gate in gates)
    return f"{met}/{len(gates)}" if gates else NONE


PODS = (
    NAME,
    Column("Ready", _pod_ready),
    Column("Status", _pod_status),
    Column("Restarts", _pod_restarts),
    AGE,
    Column("IP", _pod_ip, priority=1),
    Column("Node", lambda pod: pod["spec"].get("nodeName") or NONE, priority=1),
    Column("Nominated Node", lambda pod: pod.get("status", {}).get("nominatedNodeName") or NONE, priority=1),
    Column("Readiness Gates", _gates, priority=1),
)


# -- nodes


def _node_status(node: Json) -> str:
    ready = _condition(node, "Ready")
    words = ["Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"]
    if node.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(node: Json) -> str:
    prefix = "node-role.kubernetes.io/"
    return _join(sorted(key[len(prefix) :] for key in node["metadata"].get("labels") or {} if key.startswith(prefix)))


def _node_address(kind: str) -> Any:
    def cell(node: Json) -> str:
        addresses = node.get("status", {}).get("addresses") or []
        return next((str(one["address"]) for one in addresses if one["type"] == kind), NONE)

    return cell


def _node_info(field: str) -> Any:
    return lambda node: node.get("status", {}).get("nodeInfo", {}).get(field) or UNKNOWN


def _kernel(node: Json) -> str:
    info = node.get("status", {}).get("nodeInfo", {})
    architecture = f" ({info['architecture']})" if info.get("architecture") else ""
    return f"{info.get('kernelVersion') or UNKNOWN}{architecture}"


NODES = (
    NAME,
    Column("Status", _node_status),
    Column("Roles", _node_roles),
    AGE,
    Column("Version", lambda node: node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "")),
    Column("Internal-IP", _node_address("InternalIP"), priority=1),
    Column("External-IP", _node_address("ExternalIP"), priority=1),
    Column("OS-Image", _node_info("osImage"), priority=1),
    Column("Kernel-Version", _kernel, priority=1),
    Column("Container-Runtime", _node_info("containerRuntimeVersion"), priority=1),
)

# -- events


def _last_seen(event: Json) -> str:
    series = event.get("series") or {}
    return age(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("firstTimestamp")
        or event.get("eventTime")
    )


def _first_seen(event: Json) -> str:
    return age(event.get("firstTimestamp") or event.get("eventTime"))


def _event_object(event: Json) -> str:
    about = event.get("involvedObject", {})
    return "/".join(filter(None, (about.get("kind", "").lower(), about.get("name"))))


def _event_source(event: Json) -> str:
    source = event.get("source", {})
    parts = (
        source.get("component") or event.get("reportingComponent"),
        source.get("host") or event.get("reportingInstance"),
    )
    return ", ".join(filter(None, parts))


EVENTS = (
    Column("Last Seen", _last_seen),
    Column("Type", lambda event: event.get("type", "")),
    Column("Reason", lambda event: event.get("reason", "")),
    Column("Object", _event_object),
    Column("Subobject", lambda event: event.get("involvedObject", {}).get("fieldPath", ""), priority=1),
    Column("Source", _event_source, priority=1),
    Column("Message", lambda event: event.get("message", "").strip()),
    Column("First Seen", _first_seen, priority=1),
    Column("Count", lambda event: str((event.get("series") or {}).get("count") or event.get("count") or 1), priority=1),
    _wide(NAME),
)

# -- services and endpoints


def _external_ip(service: Json) -> str:
    spec, kind = service["spec"], service["spec"].get("type")
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    addresses = list(spec.get("externalIPs") or [])
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    addresses += [one.get("ip") or one.get("hostname") for one in ingress]
    return _join(addresses) if addresses or kind != "LoadBalancer" else "<pending>"


def _service_ports(service: Json) -> str:
    def text(port: Json) -> str:
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"

    return _join(map(text, service["spec"].get("ports") or []))


SERVICES = (
    NAME,
    Column("Type", lambda service: service["spec"].get("type", "")),
    Column("Cluster-IP", lambda service: service["spec"].get("clusterIP") or NONE),
    Column("External-IP", _external_ip),
    Column("Port(s)", _service_ports),
    AGE,
    Column("Selector", lambda service: _pairs(service["spec"].get("selector")), priority=1),
)


def _few(values: list[str], limit: int) -> str:
    more = len(values) - limit
    return f"{','.join(values[:limit])} + {more} more..." if more > 0 else _join(values)


def _slice_ports(endpoint_slice: Json) -> str:
    ports = [str(port["port"]) if port.get("port") else "*" for port in endpoint_slice.get("ports") or []]
    return _few(ports, 3) if ports else "<unset>"


def _slice_addresses(endpoint_slice: Json) -> str:
    addresses = [text for one in endpoint_slice.get("endpoints") or [] for text in one.get("addresses") or []]
    return _few(addresses, 3) if addresses else "<unset>"


ENDPOINT_SLICES = (
    NAME,
    Column("AddressType", lambda one: one.get("addressType", "")),
    Column("Ports", _slice_ports),
    Column("Endpoints", _slice_addresses),
    AGE,
)


def _endpoints(endpoints: Json) -> str:
    found = []
    for subset in endpoints.get("subsets") or []:
        ports = subset.get("ports") or [{}]
        found += [
            f"{one['ip']}:{port['port']}" if port else str(one["ip"])
            for one in subset.get("addresses") or []
            for port in ports
        ]
    return _few(found, 3)


ENDPOINTS = (NAME, Column("Endpoints", _endpoints), AGE)

# -- the rest

NAMESPACES = (NAME, Column("Status", lambda one: one.get("status", {}).get("phase", "")), AGE)
CONFIG_MAPS = (
    NAME,
    Column("Data", lambda one: len(one.get("data") or {}) + len(one.get("binaryData") or {}), "string"),
    AGE,
)
SECRETS = (
    NAME,
    Column("Type", lambda one: one.get("type", "")),
    Column("Data", lambda one: len(one.get("data") or {}), "string"),
    AGE,
)
SERVICE_ACCOUNTS = (NAME, AGE)
LEASES = (NAME, Column("Holder", lambda one: one.get("spec", {}).get("holderIdentity") or ""), AGE)
RUNTIME_CLASSES = (NAME, Column("Handler", lambda one: one.get("handler", "")), AGE)
DEFINITIONS = (NAME, Column("Created At", lambda one: one["metadata"]["creationTimestamp"], "date"))


def _count(part: str, field: str) -> Any:
    return lambda obj: obj.get(part, {}).get(field, 0)


def _ready_of(obj: Json) -> str:
    return f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 1)}"


def _of_containers(field: str) -> Any:
    def cell(obj: Json) -> str:
        containers = obj["spec"].get("template", {}).get("spec", {}).get("containers") or []
        return _join(one.get(field, "") for one in containers)

    return cell


def _selector(obj: Json) -> str:
    return _pairs((obj["spec"].get("selector") or {}).get("matchLabels"))


_TEMPLATE = (
    Column("Containers", _of_containers("name"), priority=1),
    Column("Images", _of_containers("image"), priority=1),
)
DEPLOYMENTS = (
    NAME,
    Column("Ready", _ready_of),
    Column("Up-to-date", _count("status", "updatedReplicas"), "string"),
    Column("Available", _count("status", "availableReplicas"), "string"),
    AGE,
    *_TEMPLATE,
    Column("Selector", _selector, priority=1),
)
REPLICA_SETS = (
    NAME,
    Column("Desired", _count("spec", "replicas"), "integer"),
    Column("Current", _count("status", "replicas"), "integer"),
    Column("Ready", _count("status", "readyReplicas"), "integer"),
    AGE,
    *_TEMPLATE,
    Column("Selector", _selector, priority=1),
)
STATEFUL_SETS = (NAME, Column("Ready", _ready_of), AGE, *_TEMPLATE)
