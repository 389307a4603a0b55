"""Pods of the end-to-end tests, as data for `kubectl apply`."""

from __future__ import annotations

from tests.lab import layout
from tests.lab.workloads import frames, resp
from tests.support.kubectl import Object

SAMPLE, REDIS = "server", "redis"
"""Names of the containers."""


def sample(port: int = frames.PORT, ballast: int = 8, name: str = SAMPLE) -> Object:
    """Return a container of the sample service."""
    return _container(
        name,
        layout.SAMPLE_IMAGE,
        ["/usr/bin/python3", "/app/server.py", "--port", str(port), "--ballast", str(ballast)],
        port,
    )


def redis(port: int = resp.PORT, name: str = REDIS) -> Object:
    """Return a container of Debian's redis-server that keeps everything in memory."""
    words = ["/usr/bin/redis-server", "--port", str(port), "--save", "", "--protected-mode", "no", "--dir", "/tmp"]
    return _container(name, layout.REDIS_IMAGE, words, port)


def hardened(container: Object) -> Object:
    """Return the container as Pod Security "restricted" wants it, on a root file system that it cannot write."""
    context = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {**container, "securityContext": context}


def pod(name: str, node: str, *containers: Object, runtime_class: str = "podferry") -> Object:
    """Return a pod on `node`, labelled app=`name`; with an empty `runtime_class`, under the node's default."""
    spec: Object = {"nodeName": node, "terminationGracePeriodSeconds": 2, "containers": list(containers)}
    if runtime_class:
        spec["runtimeClassName"] = runtime_class
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec,
    }


def service(name: str, port: int) -> Object:
    """Return a Service in front of the pods labelled app=`name`."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": port}]},
    }


def is_ready(found: Object) -> bool:
    """Tell whether a pod, as the API returns it, is Ready."""
    conditions = found.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _container(name: str, image: str, command: list[str], port: int) -> Object:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "Never",
        "command": command,
        "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
    }
