"""Files that CRIU leaves behind: what a container changed in its root file system, emptyDir volumes, /dev/shm.

Each directory becomes one tar archive (POSIX pax, uncompressed) in the image set, FILES/<name>.tar, and is put back
on the target before the restore. An archive of a root file system is made of overlayfs's upper directory and applied
to the mounted root on the target, in overlayfs's own words (kernel: Documentation/filesystems/overlayfs.rst): a
whiteout stands in it as character device 0/0, an opaque directory with its xattr. Extended attributes travel as
SCHILY.xattr.*, as in GNU tar.

Sockets are left out: CRIU binds them anew. Both ends see untrusted names: an archive is applied without ever
following a symbolic link.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

from podferry import errors
from podferry_agent.process import unpack

FILES = "files"
"""Directory of the archives inside an image set."""

_OVERLAY = "trusted.overlay."
_UNREADABLE = (_OVERLAY + "redirect", _OVERLAY + "metacopy")
"""With these an upper directory does not stand for itself; containerd mounts without them."""

_LABEL = "security.selinux"
"""The label belongs to the target's container, which has one of its own."""


def collect(images: Path, sources: Mapping[str, Path]) -> int:
    """Archive `sources`, name → directory, into the image set at `images`; return the bytes written.

    A directory in which nothing lies makes no archive. What is archived must not change meanwhile: the pod is frozen.

    Raises:
        Permanent: something cannot be read, or is of a kind that cannot be carried (reason FilesNotMovable).
    """
    directory = images / FILES
    directory.mkdir(mode=0o700, exist_ok=True)
    written = 0
    for name, source in sources.items():
        try:
            if next(os.scandir(source), None) is not None:
                written += _archive(source, directory / f"{name}.tar")
        except (OSError, tarfile.TarError) as error:
            raise errors.Permanent(f"cannot collect {name}: {error}", reason="FilesNotMovable") from error
    return written


def put_back(images: Path, targets: Mapping[str, Path]) -> None:
    """Apply the archives of the image set at `images` to `targets`, name → directory.

    Raises:
        Permanent: an archive has no target, or cannot be applied (reason FilesNotMovable).
    """
    for archive in sorted((images / FILES).glob("*.tar")):
        target = targets.get(archive.stem)
        if target is None:
            raise errors.Permanent(f"the target pod has no place for {archive.stem}", reason="FilesNotMovable")
        try:
            with archive.open("rb") as file, _tar(file, "r") as tar:
                unpack.unpack(tar, target)
        except (OSError, tarfile.TarError, ValueError) as error:
            raise errors.Permanent(f"cannot put {archive.stem} back: {error}", reason="FilesNotMovable") from error


def upper_directory(rootfs: Path) -> Path:
    """Return the upper directory of the overlay that is mounted at `rootfs`.

    Raises:
        Permanent: it is no overlay (reason FilesNotMovable); other snapshotters keep changes in other ways.
    """
    wanted = os.fsencode(rootfs)
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, rest = line.partition(b" - ")
        if _unescape(fields.split()[4]) != wanted:
            continue
        kind, _, options = rest.split(b" ", 2)
        for option in options.split(b","):
            if kind == b"overlay" and option.startswith(b"upperdir="):
                return Path(os.fsdecode(_unescape(option.removeprefix(b"upperdir="))))
    raise errors.Permanent(f"{rootfs} is not an overlay with an upper directory", reason="FilesNotMovable")


def _unescape(field: bytes) -> bytes:
    """Undo the kernel's octal escapes in mountinfo (seq_path)."""
    return field.decode("latin-1").encode("latin-1").decode("unicode_escape").encode("latin-1")


def _tar(file: BinaryIO, mode: Literal["r", "w"]) -> tarfile.TarFile:
    """Open an archive whose names and values may be any bytes, whatever the locale says."""
    return tarfile.TarFile(
        fileobj=file, mode=mode, format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    )


def _archive(source: Path, archive: Path) -> int:
    with (
        os.fdopen(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file,
        _tar(file, "w") as tar,
    ):
        for path in _walk(source):
            member = _member(tar, source, path)
            if member is None:
                continue
            if member.isreg():
                with path.open("rb") as content:
                    tar.addfile(member, content)
            else:
                tar.addfile(member)
    return archive.stat().st_size


def _walk(source: Path) -> Iterator[Path]:
    """Yield `source` and all below it, a directory before what is in it."""
    yield source
    with os.scandir(source) as entries:
        children = sorted(entries, key=lambda entry: entry.name)
    for entry in children:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)


def _member(tar: tarfile.TarFile, source: Path, path: Path) -> tarfile.TarInfo | None:
    status = path.lstat()
    if stat.S_ISSOCK(status.st_mode):
        return None
    member = tar.gettarinfo(str(path), arcname=str(path.relative_to(source)))
    member.uname = member.gname = ""
    member.pax_headers = {"mtime": f"{status.st_mtime_ns // 10**9}.{status.st_mtime_ns % 10**9:09d}"}
    for name, value in _xattrs(path).items():
        if name in _UNREADABLE:
            raise errors.Permanent(f"{path} has {name}", reason="FilesNotMovable")
        if name == unpack.OPAQUE or not name.startswith((_OVERLAY, _LABEL)):
            member.pax_headers[unpack.XATTR + name] = value.decode("utf-8", "surrogateescape")
    return member


def _xattrs(path: Path) -> dict[str, bytes]:
    names: list[str] = []
    with contextlib.suppress(OSError):  # a file system without them
        names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
