"""Carrying files between two directories, and between two overlays (this machine's kernel; needs root)."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from podferry import errors
from podferry_agent.process import files


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


@pytest.fixture
def overlays(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two overlays over the same lower directory, as the same image on two nodes."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    lower = tmp_path / "lower"
    for name in ("etc/kept", "etc/deleted", "gone/deep/file", "replaced/old"):
        (lower / name).parent.mkdir(parents=True, exist_ok=True)
        (lower / name).write_text(name)
    (lower / "link").symlink_to("etc")
    mounts = []
    for node in ("a", "b"):
        for part in ("upper", "work", "rootfs"):
            (tmp_path / node / part).mkdir(parents=True)
        options = f"lowerdir={lower},upperdir={tmp_path / node / 'upper'},workdir={tmp_path / node / 'work'}"
        mounts.append(tmp_path / node / "rootfs")
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, mounts[-1]], check=True)
    yield mounts[0], mounts[1]
    for mount in mounts:
        subprocess.run(["umount", mount], check=True)


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        device = status.st_rdev if stat.S_ISCHR(status.st_mode) else 0
        time = status.st_mtime_ns
        text = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = str(path.readlink()) if path.is_symlink() else ""
        found[str(path.relative_to(root))] = (
            *(status.st_mode, status.st_uid, status.st_gid, device, time, text, target),
            status.st_nlink if path.is_file() else 0,
        )
    return found


def change(root: Path) -> None:
    """What an application may do to its root file system."""
    (root / "etc/deleted").unlink()
    (root / "etc/new").write_bytes(b"n" * 70_000)
    (root / "etc/new").chmod(0o4750)
    os.chown(root / "etc/new", 1000, 70_000_000)
    os.link(root / "etc/new", root / "etc/hard")
    os.setxattr(root / "etc/hard", "trusted.any", b"\xff\x00=\n")
    os.utime(root / "etc/kept", ns=(1, 1_234_567_890_123_456_789))
    for name in ("gone", "replaced"):
        subprocess.run(["rm", "-r", root / name], check=True)
    (root / "replaced").mkdir()
    (root / "replaced/new").write_text("new")
    (root / "link").unlink()
    (root / "link").mkdir(0o711)
    (root / "link/inside").write_text("inside")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    (root / "dangling").symlink_to("/nowhere/\udcff")
    (root / "raw\udcffname").write_text("raw")
    (root / ("l" * 200)).mkdir()
    (root / ("l" * 200) / ("k" * 200)).write_text("long")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "sock"))


def test_a_changed_root_file_system(images: Path, overlays: tuple[Path, Path]) -> None:
    source, target = overlays
    change(source)
    files.collect(images, {"rootfs": files.upper_directory(source)})
    files.put_back(images, {"rootfs": target})
    expected = listing(source)
    del expected["sock"]
    assert listing(target) == expected
    assert os.getxattr(target / "etc/new", "trusted.any") == b"\xff\x00=\n"
    assert (target / "etc/new").stat().st_ino == (target / "etc/hard").stat().st_ino


def test_and_back_again(images: Path, overlays: tuple[Path, Path]) -> None:
    """Four hops must not lose whiteouts: what was applied on B is collected there again."""
    source, target = overlays
    change(source)
    files.collect(images, {"rootfs": files.upper_directory(source)})
    files.put_back(images, {"rootfs": target})
    back = images.parent / "back"
    back.mkdir()
    files.collect(back, {"rootfs": files.upper_directory(target)})
    third = images.parent / "third"
    for part in ("upper", "work", "rootfs"):
        (third / part).mkdir(parents=True)
    options = f"lowerdir={images.parent / 'lower'},upperdir={third / 'upper'},workdir={third / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, third / "rootfs"], check=True)
    try:
        files.put_back(back, {"rootfs": third / "rootfs"})
        assert listing(third / "rootfs") == listing(target)
    finally:
        subprocess.run(["umount", third / "rootfs"], check=True)


def test_an_untouched_root_makes_no_archive(images: Path, overlays: tuple[Path, Path]) -> None:
    assert files.collect(images, {"rootfs": files.upper_directory(overlays[0])}) == 0
    assert list((images / files.FILES).iterdir()) == []


def test_what_is_no_overlay(tmp_path: Path) -> None:
    with pytest.raises(errors.Permanent) as caught:
        files.upper_directory(tmp_path)
    assert caught.value.reason == "FilesNotMovable"


def test_a_volume_keeps_owner_and_mode_of_its_root(images: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("text")
    source.chmod(0o1777)
    files.collect(images, {"volume-data": source})
    files.put_back(images, {"volume-data": target})
    assert target.stat().st_mode == source.stat().st_mode
    assert listing(target) == listing(source)


def test_a_directory_that_the_kubelet_bound_already_stays_the_same_one(images: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("text")
    (target / "sub").mkdir(parents=True)
    inode = (target / "sub").stat().st_ino
    files.collect(images, {"volume-data": source})
    files.put_back(images, {"volume-data": target})
    assert (target / "sub").stat().st_ino == inode
    assert (target / "sub/file").read_text() == "text"


def test_an_archive_without_a_place(images: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("text")
    files.collect(images, {"volume-data": tmp_path / "source"})
    with pytest.raises(errors.Permanent, match="no place for volume-data"):
        files.put_back(images, {"rootfs": tmp_path})


@pytest.mark.parametrize("name", ["../outside", "/outside", "link/outside", "link"])
def test_nothing_is_written_outside(images: Path, tmp_path: Path, name: str) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "link").symlink_to(outside)
    (images / files.FILES).mkdir()
    with tarfile.open(images / files.FILES / "rootfs.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"bad"))
    if name == "link":
        files.put_back(images, {"rootfs": target})
        assert (target / "link").read_text() == "bad"
    else:
        with pytest.raises(errors.Permanent):
            files.put_back(images, {"rootfs": target})
    assert list(outside.iterdir()) == []
