"""Turn image archives into a containerd store that a node can use from a read-only disk, without importing anything.

containerd sees ordinary images. Its databases are copied when a node boots (`skeleton/`), while layers (`content/`) and
unpacked layers (`snapshots/`) stay on the disk, and links lead there from where containerd looks for them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import command, layout

_SCRIPT = Path(__file__).with_name("fill-store")
_CONTENT = "io.containerd.content.v1.content"
_METADATA = "io.containerd.metadata.v1.bolt"
_SNAPSHOTTER = "io.containerd.snapshotter.v1.overlayfs"

_PROGRAMS = (
    *("lib", "lib64", "usr/lib64", "usr/bin/containerd", "usr/bin/ctr"),
    *("usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
)

_CONFIG = """
version = 2
root = "/filled"
state = "/run/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "/run/containerd.sock"
"""

SCRIPTS = (Path(__file__), _SCRIPT)
"""What decides on the result, besides archives and node image."""


def build(root_squashfs: Path, archives: Path, scratch: Path, out: Path) -> None:
    """Import the OCI archives `archives/*.tar` with the node image's own containerd; write the disk's tree to `out`."""
    command.run(["unsquashfs", "-quiet", "-no-progress", "-d", scratch, root_squashfs, *_PROGRAMS])
    (scratch / "etc").mkdir()
    (scratch / "etc/config.toml").write_text(_CONFIG)
    shutil.copytree(archives, scratch / "archives")
    namespaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
    command.run([*namespaces, _SCRIPT, scratch], timeout=120)
    _arrange(scratch / "store", out)


def _arrange(store: Path, out: Path) -> None:
    skeleton = out / "skeleton"
    blobs = store / _CONTENT / "blobs/sha256"
    snapshots = store / _SNAPSHOTTER / "snapshots"
    for source, name in ((blobs, "content"), (snapshots, "snapshots")):
        links = skeleton / source.relative_to(store)
        links.mkdir(parents=True)
        for path in source.iterdir():
            (links / path.name).symlink_to(f"{layout.GUEST_IMAGES}/{name}/{path.name}")
        # Not copied but moved: extended attributes and modes are part of a layer.
        source.rename(out / name)
    (skeleton / _CONTENT / "ingest").mkdir()
    (skeleton / _METADATA).mkdir()
    shutil.copy2(store / _METADATA / "meta.db", skeleton / _METADATA)
    shutil.copy2(store / _SNAPSHOTTER / "metadata.db", skeleton / _SNAPSHOTTER)
