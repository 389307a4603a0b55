"""Applying an archive of `files` to a directory, without ever following a symbolic link.

The standard library's extraction knows neither whiteouts nor xattrs, and resolves names through whatever lies on
disk. Here every directory on the way is opened with O_NOFOLLOW and everything is done relative to its descriptor.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

XATTR = "SCHILY.xattr."
"""Prefix of an extended attribute's name among a member's pax headers."""

OPAQUE = "trusted.overlay.opaque"
"""On a directory of an upper layer: nothing of the layers below shows in it."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER = 1 << 20


def unpack(tar: tarfile.TarFile, target: Path) -> None:
    """Make `target` look as the archive says; what the archive does not name stays.

    Raises:
        ValueError: a name in it leads out of `target`, or a member is of a kind that is not carried.
        OSError: the file system refuses.
    """
    root = os.open(target, _DIRECTORY)
    directories: list[tuple[tuple[str, ...], tarfile.TarInfo]] = []
    try:
        for member in tar:
            parts = _parts(member.name)
            if member.isdir():
                directories.append((parts, member))
            if parts:
                with _opened(root, parts[:-1]) as parent:
                    _put(tar, member, root, parent, parts[-1])
        for parts, member in reversed(directories):  # children first: filling a directory changes its times
            with _opened(root, parts) as directory:
                _dress(f"/proc/self/fd/{directory}/.", member)
    finally:
        os.close(root)


def whiteout(member: tarfile.TarInfo) -> bool:
    """Tell whether a member says "deleted" instead of being a file."""
    return member.ischr() and (member.devmajor, member.devminor) == (0, 0)


def _parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"name leads out of the archive: {name!r}")
    return path.parts


@contextlib.contextmanager
def _opened(root: int, parts: tuple[str, ...]) -> Iterator[int]:
    """Open the directory `parts` below `root`, no link followed on the way."""
    current = os.dup(root)
    try:
        for part in parts:
            below = os.open(part, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def _put(tar: tarfile.TarFile, member: tarfile.TarInfo, root: int, parent: int, name: str) -> None:
    """Make one member, in place of whatever has its name; a directory is kept, unless it is opaque."""
    merges = member.isdir() and XATTR + OPAQUE not in member.pax_headers
    if not (merges and _is_directory(parent, name)):
        _remove(parent, name)
        if whiteout(member):
            return
        _make(tar, member, root, parent, name)
    if not member.isdir() and not member.islnk():
        _dress(f"/proc/self/fd/{parent}/{name}", member)


def _make(tar: tarfile.TarFile, member: tarfile.TarInfo, root: int, parent: int, name: str) -> None:
    if member.isdir():
        os.mkdir(name, 0o700, dir_fd=parent)
    elif member.isreg():
        content = tar.extractfile(member)
        with os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=parent), "wb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, _BUFFER)
    elif member.islnk():
        *above, link = _parts(member.linkname)
        with _opened(root, tuple(above)) as directory:
            os.link(link, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
    elif member.issym():
        os.symlink(member.linkname, name, dir_fd=parent)
    elif member.isfifo():
        os.mkfifo(name, 0o600, dir_fd=parent)
    elif member.isdev():
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(name, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
    else:
        raise ValueError(f"{member.name!r} is of unknown type {member.type!r}")


def _dress(path: str, member: tarfile.TarInfo) -> None:
    """Set owner, mode, xattrs and time, in the order in which one does not undo another."""
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode)  # noqa: PTH101  a path through a descriptor, not a name
    for key, value in member.pax_headers.items():
        name = key.removeprefix(XATTR)
        if name not in (key, OPAQUE):
            os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
    seconds, _, nanoseconds = member.pax_headers.get("mtime", "0").partition(".")
    time = int(seconds) * 10**9 + int(nanoseconds or 0)
    os.utime(path, ns=(time, time), follow_symlinks=False)


def _is_directory(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)
    except FileNotFoundError:
        return False


def _remove(parent: int, name: str) -> None:
    if _is_directory(parent, name):
        shutil.rmtree(name, dir_fd=parent)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
