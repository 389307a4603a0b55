"""The disk that every node boots from, read-only: Debian packages, pruned, as squashfs; and its by-products.

The artefact holds `vmlinux`, `initramfs`, `root.squashfs` and `layers/*.tar`, lower layers of the container images.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.lab import cache, command, container_layers, debian, kernel, layout, progress

PACKAGES = layout.words("""
    linux-image-cloud-amd64 kmod busybox-static tini base-files libc-bin netbase bash dash coreutils util-linux
    mount grep sed findutils hostname tar gzip procps python3.11 containerd runc criu containernetworking-plugins
    nftables libnftables1 iproute2 conntrack iputils-ping iputils-arping tcpdump strace redis-server
""")

_HERE = Path(__file__).parent
_INIT = _HERE / "guest/initramfs-init"

_NOT_NEEDED = layout.words("""
    boot/* usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/i18n usr/share/perl*
    usr/share/lintian usr/share/bash-completion usr/share/zoneinfo usr/share/initramfs-tools usr/share/zsh
    usr/lib/udev usr/lib/systemd usr/lib/x86_64-linux-gnu/perl* usr/lib/x86_64-linux-gnu/libperl*
    usr/lib/x86_64-linux-gnu/gconv usr/lib/x86_64-linux-gnu/libprotobuf.so* usr/lib/x86_64-linux-gnu/libdb-5*
    usr/bin/perl* usr/bin/containerd-shim usr/bin/containerd-shim-runc-v1 usr/bin/udevadm usr/lib/python3.11/test
    usr/lib/python3.11/idlelib usr/lib/python3.11/lib2to3 usr/lib/python3.11/tkinter usr/lib/python3.11/pydoc_data
    usr/lib/python3.11/ensurepip usr/lib/python3.11/config-3.11* var/lib/dpkg var/lib/apt var/cache/* etc/cron*
    etc/systemd etc/rc?.d etc/init.d etc/logrotate.d etc/redis usr/lib/python3/dist-packages/google
    usr/lib/python3/dist-packages/protobuf*
""")
"""Deleted after unpacking. Debian's protobuf is older than the wire needs, its `google` would hide the newer one."""

_STOCK_CNI = ("loopback", "bridge", "host-local")

_USERS = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"
_GROUPS = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n"
_FOLDERS = layout.words("""
    opt/podferry opt/python opt/images opt/cni/bin run tmp proc sys dev var/log/lab usr/local/sbin
""")
_SCRIPTS = ("node_image.py", "kernel.py", "kernel_modules.py", "debian.py", "container_layers.py")


def get(report: progress.Reporter) -> Path:
    """Return the folder of the node image, built if the cache has none for today's packages and scripts."""
    scripts = [_HERE / name for name in _SCRIPTS]
    return cache.artefact("node", cache.key(debian.versions(PACKAGES), _INIT, *scripts), _steps, report)


def _steps(out: Path) -> Sequence[progress.Step]:
    tree = out / "tree"

    def kernel_files() -> None:
        kernel.vmlinux(next((tree / "boot").glob("vmlinuz-*")), out / "vmlinux")
        kernel.keep_modules(tree)
        kernel.initramfs(tree, _INIT, out / "initramfs")

    def prepare() -> None:
        _prune(tree)
        _configure(tree)

    def finish() -> None:
        for path in tree.glob("usr/bin/redis-*"):
            path.unlink()
        squash(tree, out / "root.squashfs")
        shutil.rmtree(tree)

    return [
        progress.Step("download and unpack Debian packages", lambda: debian.unpack(PACKAGES, tree)),
        progress.Step("kernel, modules, initramfs", kernel_files),
        progress.Step("prune and precompile", prepare),
        progress.Step("container image layers", lambda: container_layers.build(tree, out / "layers")),
        progress.Step("node file system", finish),
    ]


def squash(tree: Path, out: Path, *, compress: bool = False) -> None:
    """Write `tree` as a squashfs owned by root; uncompressed unless asked, since emulated nodes unpack slowly."""
    plain = [] if compress else ["-noI", "-noD", "-noF", "-noX"]
    command.run(["mksquashfs", tree, out, "-noappend", "-quiet", "-no-progress", "-all-root", *plain])


def _prune(tree: Path) -> None:
    for pattern in _NOT_NEEDED:
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for plugin in (tree / "usr/lib/cni").iterdir():
        if plugin.name not in _STOCK_CNI:
            plugin.unlink()


def _configure(tree: Path) -> None:
    """Do by hand the little that maintainer scripts would have done."""
    for folder in _FOLDERS:
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "etc/passwd").write_text(_USERS)
    (tree / "etc/group").write_text(_GROUPS)
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (tree / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (tree / "etc/machine-id").write_text("")
    for name in ("python3", "python"):
        (tree / "usr/bin" / name).unlink(missing_ok=True)
        (tree / "usr/bin" / name).symlink_to("python3.11")
    for applet in ["vi", "less", "nc", "wget", "hexdump", "awk"]:
        target = tree / "usr/bin" / applet
        if not target.exists() and not target.is_symlink():
            target.symlink_to("busybox")
    for name, place in (("var/run", "/run"), ("var/lock", "/run/lock")):
        (tree / name).rmdir()
        (tree / name).symlink_to(place)
    command.run(["ldconfig", "-r", tree])
    compile_python(tree)


def compile_python(tree: Path) -> None:
    """Precompile Debian's Python library in `tree` with its own Python; times in an image mean nothing."""
    compileall = [
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        "/usr/lib/python3.11",
        "/usr/lib/python3",
    ]
    command.run(["chroot", tree, "/usr/bin/python3.11", *compileall])
