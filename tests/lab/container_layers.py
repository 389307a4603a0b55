"""The lower layers of the lab's container images, cut out of the node's Debian tree: busybox with Python, and redis.

What changes often (the applications) comes in a layer of its own, see container_images.py.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.lab import command, layout

_APPLETS = layout.words("""
    sh cat echo ls sleep kill ps nc wget dd mount ip hostname md5sum mkdir touch
""")
_USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
_FOLDERS = ("usr/bin", "etc", "proc", "sys", "dev", "tmp", "run", "root", "app", "data")
_PYTHON_WITHOUT = layout.words("""
    dist-packages distutils unittest xml sqlite3 curses dbm wsgiref turtledemo venv xmlrpc turtle.py pydoc.py
    doctest.py site-packages __phello__ tomllib zoneinfo msilib lib-dynload/_codecs_* lib-dynload/_dbm*
    lib-dynload/_curses* lib-dynload/_test* lib-dynload/_sqlite* lib-dynload/readline* lib-dynload/_xx*
    lib-dynload/_lsprof* lib-dynload/audioop* lib-dynload/nis*
""")


def build(tree: Path, out: Path) -> None:
    """Write `python.tar` and `redis.tar`, each a complete root file system, into the folder `out`."""
    out.mkdir()
    _python(tree, out / "python")
    _redis(tree, out / "redis")
    for name in ("python", "redis"):
        pack(out / name, out / f"{name}.tar")
        shutil.rmtree(out / name)


def pack(folder: Path, out: Path) -> None:
    """Write `folder` as an uncompressed layer, sorted, root's, without times: the same content is the same tar."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=plain)


def _python(tree: Path, root: Path) -> None:
    _skeleton(tree, root)
    source, library = tree / "usr/lib/python3.11", root / "usr/lib/python3.11"
    shutil.copytree(source, library, symlinks=True)
    for pattern in _PYTHON_WITHOUT:
        for path in library.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copy2(tree / "usr/bin/python3.11", root / "usr/bin/python3.11")
    (root / "usr/bin/python3").symlink_to("python3.11")
    extensions = [f"usr/lib/python3.11/lib-dynload/{path.name}" for path in (library / "lib-dynload").glob("*.so")]
    _copy_libraries(tree, root, ["usr/bin/python3.11", *extensions])


def _redis(tree: Path, root: Path) -> None:
    _skeleton(tree, root)
    # redis-server is a link to redis-check-rdb: one program that goes by its name.
    shutil.copy2(tree / "usr/bin/redis-check-rdb", root / "usr/bin/redis-server")
    shutil.copy2(tree / "usr/bin/redis-cli", root / "usr/bin/redis-cli")
    _copy_libraries(tree, root, ["usr/bin/redis-check-rdb", "usr/bin/redis-cli"])


def _skeleton(tree: Path, root: Path) -> None:
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for link in ("bin", "sbin"):
        (root / link).symlink_to("usr/bin")
    for link in ("lib", "lib64"):
        (root / "usr" / link).mkdir()
        (root / link).symlink_to(f"usr/{link}")
    shutil.copy2(tree / "usr/bin/busybox", root / "usr/bin/busybox")
    for applet in _APPLETS:
        (root / "usr/bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(_USERS)
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def _copy_libraries(tree: Path, root: Path, programs: Iterable[str]) -> None:
    """Copy the dynamic loader and every library that `programs` (paths in `tree`) are linked with."""
    found = command.run(["chroot", tree, "/usr/bin/ldd", *(f"/{program}" for program in programs)])
    paths = set(re.findall(r"(/\S+\.so\S*) \(0x", found))
    for path in paths:
        source = (tree / path.lstrip("/")).resolve()
        target = root / "usr" / path.lstrip("/").removeprefix("usr/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(source, target)
