"""A verifying client in a process of its own, started and stopped by a test or the demo."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.lab.workloads import results

ROOT = Path(__file__).resolve().parents[2]


class Client:
    """One run of `tests.lab.workloads.client`; a context manager that leaves no process behind.

    `prefix` puts it where it belongs, as in `["ip", "netns", "exec", NAME]`; `options` are the client's own.
    """

    def __init__(
        self, name: str, address: str, folder: Path, prefix: Sequence[str] = (), **options: str | float
    ) -> None:
        self.name = name
        self._result = folder / f"{name}.result.json"
        self._progress = folder / f"{name}.progress.json"
        self.log = folder / f"{name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        for old in (self._result, self._progress):
            old.unlink(missing_ok=True)
        command = [*prefix, sys.executable, "-m", "tests.lab.workloads.client", address]
        command += [word for key, value in options.items() for word in (f"--{key}", str(value))]
        command += ["--result", str(self._result), "--progress", str(self._progress)]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def glance(self) -> results.Progress | None:
        """Return how it goes; None before all its connections stand."""
        try:
            return results.glance(self._progress.read_text())
        except FileNotFoundError:
            return None

    def wait_connected(self, seconds: float = 20.0) -> results.Progress:
        """Return once traffic flows.

        Raises:
            AssertionError: it ended, or nothing has arrived after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            now = self.glance()
            if now is not None and now.sent + now.received > 0:
                return now
            assert self._process.poll() is None, f"client {self.name} ended: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"client {self.name} has no traffic after {seconds:.0f} s"
            time.sleep(0.05)

    def finish(self, seconds: float = 90.0) -> results.Result:
        """Let it end properly and return what it saw.

        Raises:
            AssertionError: it does not end within `seconds`, or without a result.
        """
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"client {self.name} does not end: {self.log.read_text()}") from error
        assert self._result.exists(), f"client {self.name} left no result: {self.log.read_text()}"
        return results.loads(self._result.read_text())
