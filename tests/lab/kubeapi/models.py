"""Schemas of the built-in kinds, read from the official Python client's models.

The client ships one module per type with its JSON names, types and descriptions. They are read as text, one type at a
time and only when asked for: importing all of them would cost a second at start.

A schema is a graph of plain dictionaries: a nested type is the same dictionary wherever it is used, and carries its
class name under `x-type` (from which OpenAPI makes its references). Merge keys of lists are not in the models; they
stand here.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import pathlib
import re

from .errors import Json

TYPE_NAME = "x-type"

_SCALARS: dict[str, Json] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
    "object": {"x-kubernetes-preserve-unknown-fields": True},
}

_QUANTITIES = {"allocatable", "capacity", "limits", "requests", "sizeLimit", "overhead", "podFixed", "divisor"}
"""Fields of type `resource.Quantity`, which a client may also write as a number."""

_MERGE_KEYS = {
    "V1Container": {
        "env": "name",
        "ports": "containerPort",
        "volumeMounts": "mountPath",
        "volumeDevices": "devicePath",
    },
    "V1DeploymentStatus": {"conditions": "type"},
    "V1NamespaceStatus": {"conditions": "type"},
    "V1NodeStatus": {"conditions": "type", "addresses": "type"},
    "V1ObjectMeta": {"ownerReferences": "uid", "finalizers": ""},
    "V1PodSpec": {
        "containers": "name",
        "ephemeralContainers": "name",
        "hostAliases": "ip",
        "imagePullSecrets": "name",
        "initContainers": "name",
        "schedulingGates": "name",
        "topologySpreadConstraints": "topologyKey",
        "volumes": "name",
    },
    "V1PodStatus": {"conditions": "type", "hostIPs": "", "podIPs": "ip"},
    "V1ReplicaSetStatus": {"conditions": "type"},
    "V1ServiceAccount": {"secrets": "name"},
    "V1ServiceSpec": {"ports": "port"},
    "V1ServiceStatus": {"conditions": "type"},
    "V1StatefulSetStatus": {"conditions": "type"},
}
"""Lists that strategic merge patch merges, by their key; an empty key merges plain values."""

_IMPORT = re.compile(r"^from kubernetes\.client\.models\.(\w+) import (\w+)$", re.MULTILINE)
_FIELD = re.compile(r'^    (\w+): (Optional\[)?(.*?)(?: = |$)(?:.*description="((?:[^"\\]|\\.)*)")?', re.MULTILINE)
_ABOUT = re.compile(r'^class \w+\(BaseModel\):\n    """\n    (.*)$', re.MULTILINE)


@functools.cache
def _folder() -> pathlib.Path:
    spec = importlib.util.find_spec("kubernetes")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the official client (package kubernetes) is not installed")
    return pathlib.Path(spec.submodule_search_locations[0]) / "client" / "models"


def _mapping(source: str, name: str) -> dict[str, str]:
    start = source.index("{", source.index(f"    {name}: ClassVar[Dict[str, str]] = ") + len(name) + 30)
    found = ast.literal_eval(source[start : source.index("}", start) + 1])
    return dict(found)


def _is_required(field: re.Match[str]) -> bool:
    return not field[2] and "default=None" not in field[0] and not field[0].endswith("= None")


@functools.cache
def schema(module: str) -> Json:
    """Return the schema of the type in one of the client's model modules, e.g. `v1_pod`."""
    return _Reader().read(module)


class _Reader:
    """Reads types and what they use; `seen` closes the cycles."""

    seen: dict[str, Json] = {}  # noqa: RUF012  one graph for the whole process

    def read(self, module: str) -> Json:
        if module in self.seen:
            return self.seen[module]
        source = (_folder() / f"{module}.py").read_text(encoding="utf-8")
        modules = {name: stem for stem, name in _IMPORT.findall(source)}
        types, names = _mapping(source, "openapi_types"), _mapping(source, "attribute_map")
        body = source[source.index("(BaseModel):") : source.index("    openapi_types: ")]
        fields = {match[1]: match for match in _FIELD.finditer(body)}
        class_name = source[: source.index("(BaseModel):")].rpartition("class ")[2]
        about = _ABOUT.search(source)
        modules[class_name] = module
        result: Json = {"type": "object", TYPE_NAME: class_name, "description": about[1] if about else ""}
        self.seen[module] = result
        properties: Json = {}
        for attribute, text in types.items():
            name, field = names[attribute], fields.get(attribute)
            properties[name] = self._property(class_name, name, text, field, modules)
        result["properties"] = properties
        required = [names[attribute] for attribute in types if attribute in fields and _is_required(fields[attribute])]
        if required:
            result["required"] = required
        return result

    def _property(
        self, class_name: str, name: str, text: str, field: re.Match[str] | None, modules: dict[str, str]
    ) -> Json:
        found = self._type(text, modules)
        if name in _QUANTITIES:
            found = {"additionalProperties": _quantity(), "type": "object"} if text.startswith("Dict") else _quantity()
        elif field is not None and "StrictInt | StrictStr" in field[3]:
            found = {"x-kubernetes-int-or-string": True}
        if TYPE_NAME in found:
            return found
        found = dict(found)
        if field is not None and field[4]:
            found["description"] = str(ast.literal_eval(f'"{field[4]}"'))
        key = _MERGE_KEYS.get(class_name, {}).get(name)
        if key is not None:
            found["x-kubernetes-patch-strategy"] = "merge"
            if key:
                found["x-kubernetes-patch-merge-key"] = key
        return found

    def _type(self, text: str, modules: dict[str, str]) -> Json:
        if text.startswith("List["):
            return {"type": "array", "items": self._type(text[5:-1], modules)}
        if text.startswith("Dict["):
            return {"type": "object", "additionalProperties": self._type(text.partition(", ")[2][:-1], modules)}
        if text in _SCALARS:
            return _SCALARS[text]
        return self.read(modules[text]) if text in modules else _SCALARS["object"]


def _quantity() -> Json:
    return {"x-kubernetes-int-or-string": True, "x-quantity": True}
