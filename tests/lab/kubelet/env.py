"""A container's environment: plain values, $(VAR) references and fields of the pod. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.lab.kubelet import pods

_REFERENCE = re.compile(r"\$(\$|\(([^()$]*)\))")
_INDEXED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class Unresolvable(Exception):
    """The pod asks for a variable that cannot be given; the container cannot be created."""


def variables(pod: pods.Json, container: pods.Json, ips: Sequence[str], host_ip: str) -> dict[str, str]:
    """Return the variables of one container, in the order of its spec.

    Raises:
        Unresolvable: a source other than fieldRef, or a field that cannot be used.
    """
    found: dict[str, str] = {}
    for one in container.get("env") or []:
        source = one.get("valueFrom")
        if source is None:
            found[one["name"]] = expand(one.get("value") or "", found)
        elif "fieldRef" in source:
            found[one["name"]] = _field(pod, source["fieldRef"]["fieldPath"], ips, host_ip)
        else:
            raise Unresolvable(f"env {one['name']}: only value and valueFrom.fieldRef are known here")
    return found


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace $(NAME) where NAME is known; $$ is a dollar sign, anything else stays as it is."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return known.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def expand_all(texts: Iterable[str] | None, known: Mapping[str, str]) -> list[str]:
    """Expand every word of a command."""
    return [expand(text, known) for text in texts or []]


def _field(pod: pods.Json, path: str, ips: Sequence[str], host_ip: str) -> str:
    if match := _INDEXED.fullmatch(path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    fields: dict[str, Any] = {
        "metadata.name": pods.name(pod),
        "metadata.namespace": pods.namespace(pod),
        "metadata.uid": pods.uid(pod),
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.hostIP": host_ip,
        "status.podIP": ips[0] if ips else "",
        "status.podIPs": ",".join(ips),
    }
    if path not in fields:
        raise Unresolvable(f"fieldRef {path} is unknown")
    return str(fields[path])
