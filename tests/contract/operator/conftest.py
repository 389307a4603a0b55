"""A stage for the operator: an API server, fake agents, a pretended kubelet, and the real operator."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import control_plane as real_control_plane
from tests.support import pki, stage


@pytest.fixture(scope="session", params=["embedded"] if real_control_plane.missing() else ["embedded", "real"])
def control_plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[stage.ControlPlane]:
    with getattr(stage, request.param)(tmp_path_factory.mktemp("cluster")) as plane:
        yield plane


@pytest.fixture(scope="session")
def authority() -> pki.Authority:
    return pki.Authority()


@pytest.fixture(scope="session")
def shared_operator(
    control_plane: stage.ControlPlane, authority: pki.Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("operator")
    operator = stage.Operator(control_plane, authority, folder, namespace="shared-*")
    operator.start()
    yield
    operator.stop()


_numbers = itertools.count(1)


@pytest.fixture
def place(
    control_plane: stage.ControlPlane, shared_operator: None, authority: pki.Authority, tmp_path: Path
) -> Iterator[stage.Stage]:
    """A namespace with two nodes, served by the operator that all tests share."""
    with contextlib.closing(stage.Stage(control_plane, authority, tmp_path, f"shared-{next(_numbers)}")) as made:
        yield made


@pytest.fixture
def own_place(
    control_plane: stage.ControlPlane, authority: pki.Authority, tmp_path: Path
) -> Iterator[tuple[stage.Stage, stage.Operator]]:
    """A namespace with two nodes and an operator of its own, not yet started, that the test may kill."""
    name = f"own-{next(_numbers)}"
    operator = stage.Operator(control_plane, authority, tmp_path / "operator", namespace=name)
    with contextlib.closing(stage.Stage(control_plane, authority, tmp_path, name)) as made:
        yield made, operator
    operator.stop()
