"""One lab with podferry installed for all end-to-end tests; each test leaves it without pods and migrations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.lab import lab as labs
from tests.support import kubectl, site


@pytest.fixture(scope="package")
def lab() -> Iterator[labs.Lab]:
    with labs.Lab() as booted:
        yield booted


@pytest.fixture(scope="package")
def installed(lab: labs.Lab) -> site.Site:
    found = site.boot(lab)
    found.install()
    return found


class Stage:
    """The site during one test: what was put on it is taken away at the end."""

    def __init__(self, where: site.Site) -> None:
        self.site = where
        self._names: list[str] = []

    def run(self, *objects: kubectl.Object) -> None:
        """Apply objects and wait until every pod among them is Ready."""
        self._names += [one["metadata"]["name"] for one in objects if one["kind"] == "Pod"]
        self.site.run(*objects)

    def clear(self) -> None:
        """Remove everything, agents with armed faults included."""
        self.site.remove(*self._names)


@pytest.fixture
def stage(installed: site.Site, lab: labs.Lab) -> Iterator[Stage]:
    made = Stage(installed)
    yield made
    made.clear()
