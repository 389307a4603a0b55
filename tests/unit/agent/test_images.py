from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podferry import errors
from podferry.wire import agent_pb2
from podferry_agent.process import images

NAME = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in {".", ".."} and len(name.encode()) <= images.NAME_MAX
)
SETS = st.dictionaries(st.tuples(st.sampled_from(["", "criu", "files"]), NAME), st.binary(max_size=300), max_size=6)


def write(directory: Path, content: dict[tuple[str, str], bytes]) -> None:
    for (folder, name), data in content.items():
        path = directory / folder / f"f{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def stream(directory: Path) -> tuple[agent_pb2.Manifest, bytes]:
    listed = images.manifest("app", directory)
    return listed, b"".join(images.chunks(directory, listed))


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def manifest(*files: tuple[str, int]) -> agent_pb2.Manifest:
    return agent_pb2.Manifest(files=[agent_pb2.ImageFile(path=path, size=size) for path, size in files])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(files=SETS, cut=st.integers(1, 97))
def test_any_set_arrives_whole_however_the_stream_is_cut(
    tmp_path_factory: pytest.TempPathFactory, files: dict[tuple[str, str], bytes], cut: int
) -> None:
    root = tmp_path_factory.mktemp("set")
    source, target = root / "source", root / "target"
    source.mkdir()
    write(source, {(folder, name): data for (folder, name), data in files.items() if len(name.encode()) < 255})
    listed, data = stream(source)
    receiver = images.Receiver(target, listed)
    for start in range(0, len(data), cut):
        assert not receiver.complete
        receiver.write(data[start : start + cut])
    assert receiver.complete
    assert receiver.finish() == images.size(source) == images.size(target)
    assert content(source) == content(target)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in target.rglob("*") if path.is_file())
    assert target.stat().st_mode & 0o777 == 0o700


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(flipped=st.integers(0, 10**6), cut=st.integers(1, 500))
def test_a_changed_byte_anywhere_is_found_and_everything_wiped(
    tmp_path_factory: pytest.TempPathFactory, flipped: int, cut: int
) -> None:
    root = tmp_path_factory.mktemp("set")
    (root / "source").mkdir()
    write(root / "source", {("criu", "a"): b"x" * 100, ("", "b"): b"", ("files", "c"): b"yz" * 50})
    listed, data = stream(root / "source")
    damaged = bytearray(data)
    damaged[flipped % len(data)] ^= 1
    receiver = images.Receiver(root / "target", listed)
    for start in range(0, len(data), cut):
        receiver.write(bytes(damaged[start : start + cut]))
    with pytest.raises(errors.Permanent) as caught:
        receiver.finish()
    assert caught.value.reason == "ImagesDamaged"
    assert not (root / "target").exists()


@pytest.mark.parametrize(
    "names",
    [
        ["../x"],
        ["/etc/passwd"],
        ["a/../b"],
        [""],
        ["."],
        ["a//b"],
        ["a/"],
        ["./a"],
        ["a\0b"],
        ["a", "a"],
        ["a", "a/b"],
        ["n" * 256],
        ["/".join("abcdefghi")],
    ],
)
def test_a_name_that_is_not_plainly_inside_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(errors.InvalidInput):
        images.Receiver(tmp_path / "target", manifest(*((name, 1) for name in names)))
    assert not (tmp_path / "target").exists()


def test_more_than_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        images.Receiver(tmp_path / "target", manifest(("a", 60), ("b", 60)), limit=100)
    assert caught.value.reason == "NoSpace"
    with pytest.raises(errors.InvalidInput):
        images.Receiver(tmp_path / "target", manifest(("a", 2**63)))


def test_more_than_announced_is_refused_and_wiped(tmp_path: Path) -> None:
    receiver = images.Receiver(tmp_path / "target", manifest(("a", 3)))
    with pytest.raises(errors.InvalidInput):
        receiver.write(b"abc" + hashlib.sha256(b"abc").digest() + b"!")
    assert not (tmp_path / "target").exists()


def test_a_stream_that_ends_early_is_wiped(tmp_path: Path) -> None:
    receiver = images.Receiver(tmp_path / "target", manifest(("a", 3), ("b", 3)))
    receiver.write(b"abcd")
    with pytest.raises(errors.Permanent):
        receiver.finish()
    assert not (tmp_path / "target").exists()


def test_an_existing_directory_is_not_received_into(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "other").write_text("keep")
    with pytest.raises(FileExistsError):
        images.Receiver(tmp_path / "target", manifest(("a", 3)))
    assert (tmp_path / "target" / "other").read_text() == "keep"


def test_links_are_not_sent(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(errors.Permanent):
        images.manifest("app", tmp_path)


def test_a_file_that_shrinks_under_way_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    listed = images.manifest("app", tmp_path)
    (tmp_path / "a").write_bytes(b"x" * 5)
    with pytest.raises(errors.Permanent):
        list(images.chunks(tmp_path, listed))


def test_wiping_twice_is_fine(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    images.wipe(tmp_path / "set")
    images.wipe(tmp_path / "set")
    assert not (tmp_path / "set").exists()
