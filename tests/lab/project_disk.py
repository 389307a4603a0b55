"""The disk with this project's own code, made anew whenever a file of it changed, in well under a second.

It is laid out as the repository is: node-agent/src and tests/lab, and `bin/` with what is compiled.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.lab import cache, command, layout, node_image, progress

REPOSITORY = Path(__file__).resolve().parents[2]
_HOOK = Path("node-agent/src/hook")
_CNI = Path(__file__).with_name("guest") / "cni.c"
_C_FLAGS = ("-std=gnu11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wformat=2")
_CODE = ("node-agent/src/podferry", "node-agent/src/podferry_agent", "tests/lab")
_NOT_FOR_NODES = ("tests/lab/demo", "tests/lab/kubeapi", "tests/lab/controllers", "tests/lab/workloads")
_SUFFIXES = ("", ".py", ".toml", ".json", ".proto")


def get(report: progress.Reporter) -> Path:
    """Return `project.squashfs` for the files as they are now."""
    files = _files()
    content = [(path.as_posix(), cache.key(REPOSITORY / path)) for path in files]
    compiled = binaries(report)

    def steps(out: Path) -> Sequence[progress.Step]:
        return [progress.Step("project code", lambda: _build(files, compiled, out))]

    key = cache.key(content, compiled.name, Path(__file__))
    return cache.artefact("project", key, steps, report) / "project.squashfs"


def binaries(report: progress.Reporter) -> Path:
    """Return the folder with what is compiled for nodes, static: the runtime hook and the CNI plugin."""
    sources = sorted(path for path in (REPOSITORY / _HOOK).iterdir() if path.is_file())

    def steps(out: Path) -> Sequence[progress.Step]:
        return [progress.Step("compile", lambda: _compile(out))]

    return cache.artefact("binaries", cache.key(*sources, _CNI, _C_FLAGS), steps, report)


def _compile(out: Path) -> None:
    command.run(["make", "--silent", "-C", REPOSITORY / _HOOK, f"BUILD={out}"])
    compile_cni(out / "podferry-lab-cni")


def compile_cni(out: Path, *options: str) -> None:
    """Compile the CNI plugin for nodes, or with further options for a test."""
    command.run(["gcc", *_C_FLAGS, *options, "-o", out, _CNI])


def _files() -> list[Path]:
    found = [
        path.relative_to(REPOSITORY) for code in _CODE for path in (REPOSITORY / code).rglob("*") if path.is_file()
    ]
    return sorted(
        path
        for path in found
        if path.suffix in _SUFFIXES
        and not any(path.is_relative_to(other) for other in _NOT_FOR_NODES)
        and not path.name.startswith("test_")
    )


def _build(files: Sequence[Path], compiled: Path, out: Path) -> None:
    tree = out / "tree"
    for file in files:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / file, tree / file)
    shutil.copytree(compiled, tree / "bin")
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(
        tree, quiet=2, stripdir=str(tree), prependdir=layout.GUEST_CODE, invalidation_mode=unchecked, workers=1
    )
    node_image.squash(tree, out / "project.squashfs")
    shutil.rmtree(tree)
