"""The demo's judgement and its pictures, over made-up observations; the real thing is tests/e2e and `make demo`."""

from __future__ import annotations

import dataclasses
import io
import os
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from rich import console as rich_console
from tests.lab import demo, layout
from tests.lab.demo import evidence, report, scene
from tests.lab.workloads import results
from tests.support import kubectl, migrations

from podferry import steps

FOLDER = Path(demo.__file__).parent
LOST = {"total": 3, "kept": 2, "closed": 1, "audit": [{"peer": "10.77.0.100:1002", "fate": "closed: why"}]}
CRD = Path(__file__).parents[3] / "crds/podferry.dev_servicemigrations.yaml"


def observed(step: str = "Done", succeeded: str = "True", **status: Any) -> dict[str, Any]:
    walked = [row.step for row in steps.TABLE if steps.ORDER[row.step] <= steps.ORDER[steps.Step(step)]]
    timings = [
        {"step": str(name), "startedAt": f"2026-01-01T00:00:{number:02}.250000Z", "seconds": 0.5}
        for number, name in enumerate(walked)
    ]
    condition = {
        "type": "Succeeded",
        "status": succeeded,
        "reason": "Moved",
        "message": "all is well",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    connections = {"total": 2, "kept": 2, "closed": 0, "bytesQueued": 300, "deadTimeMs": 12.5}
    audit = [
        {"local": "10.77.1.2:5000", "peer": f"10.77.0.100:{port}", "state": "ESTABLISHED", "fate": "kept",
         "bytesQueued": 150, "windowUpdates": 1, "answeredMs": 3.5}
        for port in (1001, 1002)
    ]  # fmt: skip
    return {
        "apiVersion": "podferry.dev/v1alpha1",
        "kind": "ServiceMigration",
        "metadata": {"name": "sample-to-b"},
        "spec": {"podName": "sample", "targetNode": "b"},
        "status": {
            "step": step,
            "conditions": [condition],
            "timings": timings,
            "freezeSeconds": 1.25,
            "connections": {**connections, "audit": audit},
            "source": {"node": "a"},
            "target": {"node": "b", "podName": "sample-12345"},
            "memory": {"imageBytes": 20_000_000},
            **status,
        },
    }


def client(*failures: results.Failure | None) -> results.Result:
    connections = [
        results.Connection(
            f"echo {port}", f"10.77.0.100:{port}", "10.77.1.2:5000", 100, 100, 200, results.Gap(1.5), failure
        )
        for port, failure in enumerate(failures, 1001)
    ]
    return results.Result("echo", 0.0, 1.0, connections, [])


def good() -> evidence.Evidence:
    placement = evidence.Placement("b", ready=True, source_pod_left=False, running_on=("b",))
    return evidence.Evidence(migrations.parse(observed()), [client(None, None)], placement, observed())


def text_of(drawn: rich_console.RenderableType) -> str:
    console = rich_console.Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(drawn)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_all_well_is_no_problem() -> None:
    assert evidence.problems(good()) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"clients": []}, "no client was connected"),
        ({"clients": [client(None, results.Failure("reset", "by peer"))]}, "reset"),
        ({"clients": [client(None, results.Failure("lost", "frame 7"))]}, "lost"),
        ({"clients": [client(None, None, None)]}, "clients had 3 connections, the migration kept 2"),
        (
            {"clients": [dataclasses.replace(client(None, None), problems=["another process answers"])]},
            "another process",
        ),
        ({"migration": migrations.parse(observed(succeeded="False"))}, "did not succeed"),
        ({"migration": migrations.parse(observed(succeeded="Unknown"))}, "did not succeed"),
        ({"migration": migrations.parse(observed(connections={"total": 2, "kept": 1, "closed": 1}))}, "kept 1"),
        ({"migration": migrations.parse(observed(connections=LOST))}, "connection 10.77.0.100:1002: closed: why"),
        ({"placement": evidence.Placement("a", True, False, ("b",))}, "the API has the pod on a"),
        ({"placement": evidence.Placement("b", False, False, ("b",))}, "not Ready"),
        ({"placement": evidence.Placement("b", True, True, ("b",))}, "source pod is still there"),
        ({"placement": evidence.Placement("b", True, False, ("a", "b"))}, "containerd runs the container on a, b"),
        ({"placement": evidence.Placement("b", True, False, ())}, "on no node"),
    ],
)
def test_everything_that_is_not_well_is_a_problem(change: dict[str, Any], word: str) -> None:
    found = dataclasses.replace(good(), **change)
    assert any(word in problem for problem in evidence.problems(found)), evidence.problems(found)


def test_a_probe_that_was_closing_is_no_problem() -> None:
    audit = [{"peer": "10.77.0.1:999", "fate": "closed: peer had closed"}]
    moved = migrations.parse(observed(connections={"total": 3, "kept": 2, "closed": 1, "audit": audit}))
    assert evidence.problems(dataclasses.replace(good(), migration=moved)) == []


def test_the_report_shows_figures_fates_and_verdict() -> None:
    shown = text_of(report.render(good(), []))
    for expected in ("1.25 s", "12 ms", "2 of 2", "400 B", "10.77.0.100:1001", "ESTABLISHED", "4 ms", "runs on node b"):
        assert expected in shown, shown


def test_the_report_is_bounded_and_shows_the_worst_first() -> None:
    clients = [client(*[None] * 200, results.Failure("reset", "by peer"))]
    shown = text_of(report.render(dataclasses.replace(good(), clients=clients), ["something"]))
    assert f"and {201 - report.FATES} more" in shown
    assert "10.77.0.100:1201" in shown
    assert "runs on node" not in shown


def test_steps_are_shown_as_they_stand() -> None:
    running = migrations.parse(observed("Save", "Unknown"))
    assert scene.state(steps.Step.FREEZE, running) == "done"
    assert scene.state(steps.Step.SAVE, running) == "running"
    assert scene.state(steps.Step.SEND, running) == "pending"
    assert scene.state(steps.Step.SAVE, migrations.parse(observed("Save", "False"))) == "failed"
    shown = text_of(scene.progress(running, time.time()))
    assert "point of no return" in shown
    assert "500 ms" in shown


def test_without_a_terminal_each_step_is_one_line() -> None:
    console = rich_console.Console(file=io.StringIO(), width=160)
    with scene.Stage(console) as stage:
        with stage.chore("apply"):
            pass
        for step in ("Preflight", "Save", "Save", "Done"):
            stage.migration(migrations.parse(observed(step, "True" if step == "Done" else "Unknown")))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("✓ apply")
    assert [line.split()[0] for line in lines[1:]] == [str(row.step) for row in scene.SHOWN]


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.50 GB")])
def test_sizes_are_for_people(count: float, shown: str) -> None:
    assert scene.size(count) == shown


def test_the_made_up_status_is_what_the_crd_admits() -> None:
    version = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    jsonschema.validate(observed(), version["schema"]["openAPIV3Schema"])


def test_the_manifests_fit_the_lab_and_the_crd() -> None:
    found = [one for path in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]
    kinds = {one["kind"]: one for one in found}
    pod = kinds["Pod"]
    assert [container["image"] for container in pod["spec"]["containers"]] == [layout.SAMPLE_IMAGE]
    assert pod["spec"]["runtimeClassName"] == kinds["RuntimeClass"]["metadata"]["name"]
    assert kinds["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    order = kinds["ServiceMigration"]
    assert order["spec"]["podName"] == pod["metadata"]["name"]
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    jsonschema.validate(order, schema)
    assert migrations.build("sample-to-node-b", "sample", "node-b") == order


def test_a_stream_of_objects_is_read_in_any_slicing() -> None:
    reader, writer = os.pipe()
    os.write(writer, b'{"a": "\xc3')
    os.write(writer, b'\xa4"}\n{"b"')
    os.write(writer, b": 2}\n")
    os.close(writer)
    try:
        assert list(kubectl._documents(reader, time.monotonic() + 5)) == [{"a": "ä"}, {"b": 2}]
    finally:
        os.close(reader)


def test_a_stream_that_falls_silent_ends_at_the_deadline() -> None:
    reader, writer = os.pipe()
    os.write(writer, b'{"a": 1}')
    try:
        assert list(kubectl._documents(reader, time.monotonic() + 0.05)) == [{"a": 1}]
    finally:
        os.close(reader)
        os.close(writer)
