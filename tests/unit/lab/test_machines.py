"""The lab's host side without machines: cache, certificates, state, what is written into a disk."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.lab import cache, certificates, container_images, container_layers, progress, slots, state

from podferry import errors, ids


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODFERRY_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def build(key: str, content: str = "x") -> Path:
    def steps(out: Path) -> Sequence[progress.Step]:
        def write() -> None:
            (out / "file").write_text(content)

        return [progress.Step("write", write)]

    return cache.artefact("kind", key, steps, progress.Lines())


def test_an_artefact_is_built_once_per_key() -> None:
    first = build("one", "first")
    assert build("one", "not built again") == first
    assert (first / "file").read_text() == "first"
    assert (build("two", "second") / "file").read_text() == "second"


def test_a_failed_build_leaves_nothing() -> None:
    def steps(out: Path) -> Sequence[progress.Step]:
        def fail() -> None:
            (out / "half").write_text("x")
            raise errors.Permanent("no")

        return [progress.Step("fail", fail)]

    with pytest.raises(errors.Permanent):
        cache.artefact("kind", "broken", steps, progress.Lines())
    assert [path.name for path in (cache.root() / "kind").iterdir()] == ["lock"]


def test_old_artefacts_and_half_built_ones_go() -> None:
    (cache.root() / "kind/building-left").mkdir(parents=True)
    for number in range(cache.KEEP + 2):
        os.utime(build(f"key{number}"), (number, number))
    kept = sorted(path.name for path in (cache.root() / "kind").iterdir() if path.is_dir())
    assert kept == [f"key{number}" for number in range(2, cache.KEEP + 2)]


def _build_slowly(path: str) -> None:
    def steps(out: Path) -> Sequence[progress.Step]:
        def work() -> None:
            with Path(path).open("a") as log:
                log.write("built\n")
            time.sleep(0.2)

        return [progress.Step("work", work)]

    cache.artefact("kind", "shared", steps, progress.Lines())


def test_two_builders_build_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [multiprocessing.get_context("fork").Process(target=_build_slowly, args=(str(log),)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(20)
    assert log.read_text() == "built\n"


def test_keys_depend_on_content_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a")
    before = cache.key("x", file, {"b": 1, "a": 2})
    os.utime(file, (1, 1))
    assert cache.key("x", file, {"a": 2, "b": 1}) == before
    file.write_text("b")
    assert cache.key("x", file, {"a": 2, "b": 1}) != before
    assert cache.key("ab", "c") != cache.key("a", "bc")


def test_certificates_name_their_owner_and_verify(tmp_path: Path) -> None:
    authority = certificates.Authority()
    name = ids.agent_server_name("node-a")
    authority.issue(tmp_path, name, ["10.77.0.1"])
    leaf, root = (x509.load_pem_x509_certificate((tmp_path / file).read_bytes()) for file in ("tls.crt", "ca.crt"))
    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.77.0.1"]
    key = serialization.load_pem_private_key((tmp_path / "tls.key").read_bytes(), None)
    encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert key.public_key().public_bytes(*encoding) == leaf.public_key().public_bytes(*encoding)
    assert (tmp_path / "tls.key").stat().st_mode & 0o777 == 0o600


def test_removing_a_lab_ends_its_processes_and_spares_others() -> None:
    stubborn = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
    child = subprocess.Popen(stubborn, start_new_session=True, stdout=subprocess.PIPE)
    other = subprocess.Popen(["sleep", "60"])
    assert child.stdout is not None
    child.stdout.readline()
    reused = state.process("reused", other.pid)
    stale = state.Process("reused", other.pid, reused.started - 1)
    lab = state.State(
        "x", None, ["no-such-namespace"], [state.process("stubborn", child.pid), stale], nodes=["stubborn"]
    )
    lab.save()
    found = state.load("x")
    assert found == lab
    found.remove()
    assert child.wait(10) == -signal.SIGKILL
    assert other.poll() is None
    assert state.load("x") is None
    assert not lab.folder.exists()
    other.kill()
    other.wait()


def test_labs_of_killed_makers_are_swept() -> None:
    dead = subprocess.Popen(["true"])
    gone = state.process("owner", dead.pid)
    dead.wait()
    state.State("orphan", gone, []).save()
    state.State("mine", state.process("owner", os.getpid()), []).save()
    state.State("kept up", None, []).save()
    assert state.sweep() == ["orphan"]
    assert state.load("mine") is not None
    assert state.load("kept up") is not None


def _take_slots(answers: multiprocessing.SimpleQueue[bool]) -> None:
    answers.put(slots.take(0) is not None)


def test_slots_are_counted_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def others_get_one() -> bool:
        other = context.Process(target=_take_slots, args=(answers,))
        other.start()
        other.join(20)
        return answers.get()

    context = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[bool] = context.SimpleQueue()
    monkeypatch.setenv("PODFERRY_LAB_SLOTS", "1")
    first = slots.take(0)
    assert first is not None
    again = slots.take(0)
    assert again is not None, "who has one would wait for itself"
    assert not others_get_one()
    monkeypatch.setenv("PODFERRY_LAB_SLOTS", "2")
    assert others_get_one()
    monkeypatch.setenv("PODFERRY_LAB_SLOTS", "1")
    again.close()
    assert not others_get_one()
    first.close()
    assert others_get_one()


def test_an_image_archive_is_a_valid_oci_layout(tmp_path: Path) -> None:
    (tmp_path / "root/app").mkdir(parents=True)
    (tmp_path / "root/app/server.py").write_text("pass")
    layer, out = tmp_path / "layer.tar", tmp_path / "image.tar"
    container_layers.pack(tmp_path / "root", layer)
    os.utime(tmp_path / "root/app/server.py", (1, 1))
    again = tmp_path / "again.tar"
    container_layers.pack(tmp_path / "root", again)
    assert layer.read_bytes() == again.read_bytes(), "times do not matter"

    container_images.archive(out, "example.org/image:1", [layer], {"Cmd": ["/app/server.py"]})
    with tarfile.open(out) as tar:
        files = {member.name: file.read() for member in tar if (file := tar.extractfile(member))}
    manifest_descriptor = json.loads(files["index.json"])["manifests"][0]
    manifest = json.loads(_blob(files, manifest_descriptor))
    config = json.loads(_blob(files, manifest["config"]))
    (layer_descriptor,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [layer_descriptor["digest"]]
    with tarfile.open(fileobj=io.BytesIO(_blob(files, layer_descriptor))) as tar:
        assert "app/server.py" in tar.getnames()


def _blob(files: dict[str, bytes], descriptor: dict[str, object]) -> bytes:
    data = files[f"blobs/sha256/{str(descriptor['digest']).removeprefix('sha256:')}"]
    assert len(data) == descriptor["size"]
    return data
