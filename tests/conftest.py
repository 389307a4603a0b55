"""What tests of several tiers share: one lab per run, and its logs when a test that used it fails."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Generator, Iterator
from types import FrameType

import pytest
from tests.lab import lab as lab_module


def pytest_configure() -> None:
    """Let SIGTERM end the run as Ctrl-C does, through every fixture's end: no machine or namespace may stay behind."""

    def leave(number: int, _: FrameType | None) -> None:
        pytest.exit(f"ended by {signal.Signals(number).name}", returncode=128 + number)

    signal.signal(signal.SIGTERM, leave)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the lab's start out of a test's time limit: it may build images or wait, and has limits of its own."""
    for item in items:
        if item.get_closest_marker("lab") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(func_only=True))


@pytest.fixture(scope="session")
def lab() -> Iterator[lab_module.Lab]:
    """Return booted nodes with containerd, shared by all tests of the run; a test leaves them as it found them."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root: network namespaces, taps, mounts")
    with lab_module.Lab() as booted:
        yield booted


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the logs of every part of the lab when a test that uses it fails, before the next test adds to them."""
    report = yield
    used = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(used, lab_module.Lab):
        folder = used.collect_logs(re.sub(r"\W+", "-", item.name))
        report.sections.append(("lab", f"logs of all parts: {folder}"))
    return report
