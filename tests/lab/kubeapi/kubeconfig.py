"""The file by which clients find the server."""

from __future__ import annotations

import os
import pathlib

import yaml


def write(path: pathlib.Path, url: str) -> None:
    """Write a kubeconfig, mode 0600; the token keeps kubectl from asking for a user name and is not checked."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "lab", "user": {"token": "lab"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": "default"}}],
        "current-context": "lab",
    }
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        yaml.safe_dump(config, file)
    fresh.replace(path)
