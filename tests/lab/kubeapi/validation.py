"""What built-in kinds refuse: missing essentials and changes of what is immutable. Only what clients rely on."""

from __future__ import annotations

from typing import Any

from .errors import Cause, Json
from .schema import shown


def _required(field: str) -> Cause:
    return Cause("FieldValueRequired", "Required value", field)


def _immutable(field: str, value: Any) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: field is immutable", field)


def pod(new: Json, old: Json | None) -> list[Cause]:
    """Check a pod; of the spec only images, the deadline and added tolerations may change, and gates may go."""
    spec = new["spec"]
    if old is not None:
        if _fixed(spec, old["spec"]) == _fixed(old["spec"], old["spec"]):
            return []
        message = (
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            " `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions)"
        )
        return [Cause("FieldValueForbidden", message, "spec")]
    return _pod_spec(spec, "spec")


def _pod_spec(spec: Json, path: str) -> list[Cause]:
    causes = [] if spec.get("containers") else [_required(f"{path}.containers")]
    names: set[str] = set()
    for part in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(part) or []):
            where = f"{path}.{part}[{index}]"
            causes += [_required(f"{where}.{field}") for field in ("name", "image") if not container.get(field)]
            if container.get("name") in names:
                causes.append(
                    Cause("FieldValueDuplicate", f"Duplicate value: {shown(container['name'])}", f"{where}.name")
                )
            names.add(container.get("name", ""))
            for at, port in enumerate(container.get("ports") or []):
                if not port.get("containerPort"):
                    causes.append(_required(f"{where}.ports[{at}].containerPort"))
            mounts, volumes = (
                container.get("volumeMounts") or [],
                {one.get("name") for one in spec.get("volumes") or []},
            )
            for at, mount in enumerate(mounts):
                if mount.get("name") not in volumes:
                    message = f"Not found: {shown(mount.get('name', ''))}"
                    causes.append(Cause("FieldValueNotFound", message, f"{where}.volumeMounts[{at}].name"))
    if spec.get("restartPolicy") not in {"Always", "OnFailure", "Never"}:
        message = (
            f'Unsupported value: {shown(spec.get("restartPolicy"))}: supported values: "Always", "OnFailure", "Never"'
        )
        causes.append(Cause("FieldValueNotSupported", message, f"{path}.restartPolicy"))
    return causes


def _fixed(spec: Json, old: Json) -> Json:
    """Return a spec without what may change; additions to `old`'s tolerations count as what may change."""
    fixed = {key: value for key, value in spec.items() if key not in {"activeDeadlineSeconds", "schedulingGates"}}
    for part in ("containers", "initContainers"):
        if fixed.get(part):
            fixed[part] = [{key: value for key, value in one.items() if key != "image"} for one in fixed[part]]
    if all(one in (spec.get("tolerations") or []) for one in old.get("tolerations") or []):
        fixed.pop("tolerations", None)
    return fixed


def workload(new: Json, old: Json | None) -> list[Cause]:
    """Check a Deployment, ReplicaSet or StatefulSet."""
    spec = new["spec"]
    if not spec.get("selector"):
        return [_required("spec.selector")]
    if old is not None and spec["selector"] != old["spec"].get("selector"):
        return [_immutable("spec.selector", spec["selector"])]
    labels = (spec.get("template", {}).get("metadata") or {}).get("labels") or {}
    wanted = spec["selector"].get("matchLabels") or {}
    causes = _pod_spec(spec.get("template", {}).get("spec", {}), "spec.template.spec")
    if not wanted.items() <= labels.items():
        message = f"Invalid value: {shown(labels)}: `selector` does not match template `labels`"
        causes.append(Cause("FieldValueInvalid", message, "spec.template.metadata.labels"))
    return causes


def service(new: Json, old: Json | None) -> list[Cause]:
    """Check a service: its ports, and that its address stays."""
    spec = new["spec"]
    headless = spec.get("clusterIP") == "None"
    causes = [] if spec.get("ports") or headless or spec["type"] == "ExternalName" else [_required("spec.ports")]
    for index, port in enumerate(spec.get("ports") or []):
        where = f"spec.ports[{index}]"
        if not 0 < port.get("port", 0) < 65536:
            message = f"Invalid value: {port.get('port', 0)}: must be between 1 and 65535, inclusive"
            causes.append(Cause("FieldValueInvalid", message, f"{where}.port"))
        if len(spec["ports"]) > 1 and not port.get("name"):
            causes.append(_required(f"{where}.name"))
    if old is not None and old["spec"].get("clusterIP") and spec["type"] != "ExternalName":
        if not spec.get("clusterIP"):
            spec["clusterIP"], spec["clusterIPs"] = old["spec"]["clusterIP"], old["spec"]["clusterIPs"]
        elif spec["clusterIP"] != old["spec"]["clusterIP"]:
            value = [spec["clusterIP"]]
            causes.append(
                Cause(
                    "FieldValueInvalid", f"Invalid value: {shown(value)}: may not change once set", "spec.clusterIPs[0]"
                )
            )
    return causes


def endpoint_slice(new: Json, old: Json | None) -> list[Cause]:
    """Check an EndpointSlice."""
    kind = new.get("addressType")
    if not kind:
        return [_required("addressType")]
    if kind not in {"IPv4", "IPv6", "FQDN"}:
        message = f'Unsupported value: {shown(kind)}: supported values: "FQDN", "IPv4", "IPv6"'
        return [Cause("FieldValueNotSupported", message, "addressType")]
    if old is not None and old.get("addressType") != kind:
        return [_immutable("addressType", kind)]
    endpoints = enumerate(new.get("endpoints") or [])
    return [_required(f"endpoints[{index}].addresses") for index, one in endpoints if not one.get("addresses")]


def runtime_class(new: Json, old: Json | None) -> list[Cause]:
    """Check a RuntimeClass."""
    if not new.get("handler"):
        return [_required("handler")]
    return [_immutable("handler", new["handler"])] if old is not None and old["handler"] != new["handler"] else []


def frozen_data(new: Json, old: Json | None) -> list[Cause]:
    """Check a ConfigMap or Secret: immutable once it says so; the type of a secret always is."""
    if old is None:
        return []
    if old.get("type") != new.get("type"):
        return [_immutable("type", new.get("type"))]
    same = all(new.get(field) == old.get(field) for field in ("data", "binaryData", "immutable"))
    message = "Forbidden: field is immutable when `immutable` is set"
    return [] if same or not old.get("immutable") else [Cause("FieldValueForbidden", message, "data")]


def event(new: Json, old: Json | None) -> list[Cause]:
    """Check an event: it lives in the namespace of what it is about (cluster-scoped objects: in default)."""
    del old
    about = new.get("involvedObject", {}).get("namespace") or "default"
    if about != new["metadata"].get("namespace"):
        message = f'Invalid value: "{about}": does not match event.namespace'
        return [Cause("FieldValueInvalid", message, "involvedObject.namespace")]
    return []
