"""The disk with the lab's container images: pause, the sample service, redis.

Each is written as an OCI archive (a lower layer cut from Debian packages, and for the sample a layer with the
application) and then brought into the form in which containerd keeps images, see image_store.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.lab import cache, command, container_layers, image_store, layout, node_image, progress

_HERE = Path(__file__).parent
_APPLICATION = ("server.py", "frames.py")
"""Files of workloads/ that run in the sample image, in /app."""

_PAUSE = _HERE / "guest/pause.c"


def get(node: Path, report: progress.Reporter) -> Path:
    """Return `images.squashfs`; `node` is the folder of the node image."""
    application = [_HERE / "workloads" / name for name in _APPLICATION]
    key = cache.key(node.name, _PAUSE, Path(__file__), *image_store.SCRIPTS, *application)

    def steps(out: Path) -> Sequence[progress.Step]:
        return [progress.Step("container images", lambda: _build(node, application, out))]

    return cache.artefact("images", key, steps, report) / "images.squashfs"


def _build(node: Path, application: Sequence[Path], out: Path) -> None:
    tree, scratch = out / "tree", out / "scratch"
    layers, archives = node / "layers", scratch / "archives"
    archives.mkdir(parents=True)
    (scratch / "pause").mkdir(parents=True)
    command.run(["gcc", "-static", "-Os", "-s", "-Wall", "-Werror", "-o", scratch / "pause/pause", _PAUSE])
    container_layers.pack(scratch / "pause", scratch / "pause.tar")
    for source in application:
        (scratch / "application/app").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, scratch / "application/app" / source.name)
    container_layers.pack(scratch / "application", scratch / "application.tar")

    environment = ["PATH=/usr/bin", "PYTHONUNBUFFERED=1"]
    python = {"Env": environment, "Cmd": ["/usr/bin/python3", "/app/server.py"], "WorkingDir": "/"}
    redis = {"Env": environment, "Cmd": ["/usr/bin/redis-server", "--protected-mode", "no"], "WorkingDir": "/data"}
    archive(archives / "pause.tar", layout.PAUSE_IMAGE, [scratch / "pause.tar"], {"Cmd": ["/pause"]})
    archive(archives / "sample.tar", layout.SAMPLE_IMAGE, [layers / "python.tar", scratch / "application.tar"], python)
    archive(archives / "redis.tar", layout.REDIS_IMAGE, [layers / "redis.tar"], redis)
    image_store.build(node / "root.squashfs", archives, scratch / "root", tree)
    node_image.squash(tree, out / "images.squashfs")
    shutil.rmtree(tree)
    shutil.rmtree(scratch)


def archive(out: Path, name: str, layers: Sequence[Path], settings: dict[str, Any]) -> None:
    """Write one image as an OCI image layout (image-spec v1) in a tar, as `ctr images import` reads it."""
    blobs = [layer.read_bytes() for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [_digest(blob) for blob in blobs]},
    }
    encoded = json.dumps(config).encode()
    media = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{media}.manifest.v1+json",
        "config": _descriptor(f"{media}.config.v1+json", encoded),
        "layers": [_descriptor(f"{media}.layer.v1.tar", blob) for blob in blobs],
    }
    encoded_manifest = json.dumps(manifest).encode()
    named = {"annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.split(":")[1]}}
    index = {
        "schemaVersion": 2,
        "manifests": [_descriptor(f"{media}.manifest.v1+json", encoded_manifest) | named],
    }
    with tarfile.open(out, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", json.dumps(index).encode())
        for blob in (encoded_manifest, encoded, *blobs):
            _add(tar, f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}", blob)


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
