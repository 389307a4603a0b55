"""The two clusters that every probe runs against: the embedded API and, where there is one, a real control plane."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from tests.support import control_plane, kube_probe


@pytest.fixture(scope="session", params=["embedded", "real"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[kube_probe.Cluster]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "real" and (why := control_plane.missing()):
        pytest.skip(f"no real control plane: {why}")
    with getattr(kube_probe, request.param)(folder) as running:
        yield running


@pytest.fixture
def space(cluster: kube_probe.Cluster) -> Iterator[kube_probe.Space]:
    name = f"probe-{uuid.uuid4().hex[:8]}"
    cluster.http.expect(201, "POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield kube_probe.Space(cluster, name)
    cluster.http.call("DELETE", f"/api/v1/namespaces/{name}")
