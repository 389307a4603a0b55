"""The CRD, its examples, and the Python that reads and writes it do not drift apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from podferry import steps
from podferry_operator.api import migration as migrations
from podferry_operator.api.reasons import Reason

CRDS = Path(__file__).parents[3] / "crds"
CRD: dict[str, Any] = yaml.safe_load((CRDS / "podferry.dev_servicemigrations.yaml").read_text())
VERSION: dict[str, Any] = CRD["spec"]["versions"][0]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]
EXAMPLES = sorted((CRDS / "examples").glob("*.yaml"))


def _fields(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += _fields(child, f"{path}.{name}")
    if "items" in schema:
        found += _fields(schema["items"], f"{path}[]")
    return found


def test_names() -> None:
    names = CRD["spec"]["names"]
    assert (CRD["spec"]["group"], VERSION["name"]) == (migrations.GROUP, migrations.VERSION)
    assert (names["kind"], names["plural"]) == (migrations.KIND, migrations.PLURAL)
    assert names["shortNames"] == ["smig"]
    columns = [column["name"] for column in VERSION["additionalPrinterColumns"]]
    assert columns == ["Succeeded", "Step", "Pod", "Source", "Target", "Freeze", "Dead", "Age"]


def test_every_field_is_described_and_typed() -> None:
    for path, schema in _fields(SCHEMA):
        assert "type" in schema, path
        if not path.endswith("[]") and path != ".metadata":
            assert schema.get("description"), path


def test_steps_are_the_tables() -> None:
    assert SCHEMA["properties"]["status"]["properties"]["step"]["enum"] == [step.value for step in steps.Step]


def test_defaults_are_the_same_on_both_sides() -> None:
    spec = SCHEMA["properties"]["spec"]["properties"]
    plain = migrations.Spec("web", "b")
    connections = spec["connections"]["properties"]
    assert spec["freezeBudget"]["default"] == plain.freeze_budget
    assert spec["deadline"]["default"] == plain.deadline
    assert spec["dryRun"]["default"] == plain.dry_run
    assert (connections["flush"]["default"] == "ZeroWindow") == plain.flush
    assert (connections["onUnmovable"]["default"] == "Close") == plain.close_unmovable
    assert "default" not in spec["ttlAfterFinished"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid_and_readable(path: Path) -> None:
    body = yaml.safe_load(path.read_text())
    jsonschema.validate(body, SCHEMA)
    assert set(body["spec"]) <= set(SCHEMA["properties"]["spec"]["properties"])
    body["metadata"] |= {"namespace": "default", "uid": "aaaaa000-0000-4000-8000-000000000001"}
    assert migrations.parse(body).spec.pod_name == "web"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"podName": "web"},
        {"podName": "Web", "targetNode": "b"},
        {"podName": "web", "targetNode": ""},
        {"podName": "web", "targetNode": "b", "freezeBudget": "30"},
        {"podName": "web", "targetNode": "b", "deadline": "-1s"},
        {"podName": "web", "targetNode": "b", "connections": {"flush": "Maybe"}},
    ],
)
def test_nonsense_is_refused_by_the_schema(spec: dict[str, str]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"spec": spec}, SCHEMA)


def test_every_reason_is_a_word_with_a_sentence() -> None:
    pattern = SCHEMA["properties"]["status"]["properties"]["conditions"]["items"]["properties"]["reason"]["pattern"]
    for reason in Reason:
        jsonschema.validate(reason.value, {"type": "string", "pattern": pattern})
        assert reason.doc.endswith("."), reason
