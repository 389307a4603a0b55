"""An image set on its way from tmpfs to tmpfs: listing it, streaming it, receiving and verifying it, wiping it.

On the wire a set is a manifest (names and sizes) and one byte stream: the files' contents in the manifest's order
without a mark, then the SHA-256 digest of each in the same order, so that both sides hash while they stream and never
read twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from podferry import errors
from podferry.wire import agent_pb2

CHUNK = 1 << 20
"""Largest chunk in bytes."""

FILES_MAX = 100_000
NAME_MAX = 255
DEPTH_MAX = 8

_DIGEST = hashlib.sha256().digest_size
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def manifest(container: str, directory: Path) -> agent_pb2.Manifest:
    """List the files of an image set.

    Raises:
        Permanent: there is something else than directories and files in it (reason ImagesDamaged).
    """
    found = []
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            found.append(agent_pb2.ImageFile(path=path.relative_to(directory).as_posix(), size=status.st_size))
        elif not stat.S_ISDIR(status.st_mode):
            raise errors.Permanent(f"{path} is no file", reason="ImagesDamaged")
    return agent_pb2.Manifest(container=container, files=found)


def chunks(directory: Path, listed: agent_pb2.Manifest) -> Iterator[bytes]:
    """Yield the byte stream of a listed set, at most CHUNK bytes at a time.

    Raises:
        Permanent: a file is not as listed any more (reason ImagesDamaged).
    """
    digests = b""
    for file in listed.files:
        digest, left = hashlib.sha256(), file.size
        with os.fdopen(os.open(directory / file.path, _READ), "rb", buffering=0) as source:
            while left and (data := source.read(min(left, CHUNK))):
                digest.update(data)
                left -= len(data)
                yield data
        if left:
            raise errors.Permanent(f"{file.path} has shrunk", reason="ImagesDamaged")
        digests += digest.digest()
    for start in range(0, len(digests), CHUNK):
        yield digests[start : start + CHUNK]


def size(directory: Path) -> int:
    """Return the bytes in an image set's files."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def wipe(directory: Path) -> None:
    """Remove an image set, or a directory of them; it is memory of somebody's process. Idempotent.

    On tmpfs the pages are free once the names are gone, and the kernel clears them before it gives them to anyone.
    """
    if directory.exists():
        shutil.rmtree(directory)


class Receiver:
    """Writes one image set into a new directory (0700, files 0600), and lets nobody use it before all of it is
    verified.

    Whatever raises has wiped the directory.
    """

    def __init__(self, directory: Path, listed: agent_pb2.Manifest, limit: int | None = None) -> None:
        """Begin.

        Args:
            directory: where the set will be; it must not exist yet.
            listed: what the sender announced.
            limit: most bytes that may come; by default half of what the file system has left.

        Raises:
            InvalidInput: a name or size in the manifest is not acceptable.
        """
        self._directory = directory
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if limit is None:
            free = os.statvfs(directory.parent)
            limit = free.f_bavail * free.f_frsize // 2
        _check(listed, limit)
        self._files = list(listed.files)
        self._digests: list[bytes] = []
        self._trailer = bytearray()
        self._current: _Incoming | None = None
        self.received = 0
        directory.mkdir(mode=0o700)
        self._advance()

    @property
    def complete(self) -> bool:
        """Tell whether the last byte has come; `finish` then verifies."""
        return self._current is None and len(self._trailer) == _DIGEST * len(self._files)

    def write(self, data: bytes) -> None:
        """Take the next chunk.

        Raises:
            InvalidInput: more comes than was announced.
            Permanent: it cannot be written (reason ImagesNotStored).
        """
        view = memoryview(data)
        try:
            while self._current is not None and view:
                view = view[self._current.write(view) :]
                self._advance()
        except OSError as error:
            self.discard()
            raise errors.Permanent(f"cannot store images: {error}", reason="ImagesNotStored") from error
        self._trailer += view
        if len(self._trailer) > _DIGEST * len(self._files):
            self.discard()
            raise errors.InvalidInput("chunk", "more than the manifest announced")
        self.received += len(data)

    def finish(self) -> int:
        """Verify the whole set; return the bytes of its files.

        Raises:
            Permanent: bytes are missing or not those that were sent (reason ImagesDamaged).
        """
        if not self.complete:
            self.discard()
            raise errors.Permanent("the image stream ended early", reason="ImagesDamaged")
        for number, (file, digest) in enumerate(zip(self._files, self._digests, strict=True)):
            if self._trailer[number * _DIGEST : (number + 1) * _DIGEST] != digest:
                self.discard()
                raise errors.Permanent(f"{file.path} is not what was sent", reason="ImagesDamaged")
        return sum(file.size for file in self._files)

    def discard(self) -> None:
        """Drop what has come. Idempotent."""
        if self._current is not None:
            self._current.close()
            self._current = None
        wipe(self._directory)

    def _advance(self) -> None:
        """Close files that are full and open the next that is not."""
        while self._current is None or self._current.full:
            if self._current is not None:
                self._digests.append(self._current.close())
                self._current = None
            if len(self._digests) == len(self._files):
                return
            self._current = _Incoming(self._directory, self._files[len(self._digests)])


class _Incoming:
    """One file being received."""

    def __init__(self, directory: Path, file: agent_pb2.ImageFile) -> None:
        path = directory / file.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, _CREATE, 0o600)
        self._left = file.size
        self._digest = hashlib.sha256()

    @property
    def full(self) -> bool:
        return self._left == 0

    def write(self, data: memoryview) -> int:
        """Take what belongs to this file; return how much that was."""
        part = data[: self._left]
        written = 0
        while written < len(part):
            written += os.write(self._file, part[written:])
        self._digest.update(part)
        self._left -= written
        return written

    def close(self) -> bytes:
        """Close the file; return its digest."""
        os.close(self._file)
        return self._digest.digest()


def _check(listed: agent_pb2.Manifest, limit: int) -> None:
    if len(listed.files) > FILES_MAX:
        raise errors.InvalidInput("manifest.files", f"{len(listed.files)} files, at most {FILES_MAX} are taken")
    total = sum(file.size for file in listed.files)
    if total > limit:
        raise errors.InvalidInput("manifest.files", f"{total} bytes, only {limit} can be stored", reason="NoSpace")
    names = set()
    for file in listed.files:
        path = PurePosixPath(file.path)
        wrong = (
            not path.parts
            or path.is_absolute()
            or str(path) != file.path
            or "\0" in file.path
            or len(path.parts) > DEPTH_MAX
            or any(part == ".." or len(os.fsencode(part)) > NAME_MAX for part in path.parts)
        )
        if wrong or path in names:
            raise errors.InvalidInput("manifest.files", f"not a name for an image: {file.path!r}")
        names.add(path)
    if any(parent in names for path in names for parent in path.parents):
        raise errors.InvalidInput("manifest.files", "a file stands where a directory must be")
