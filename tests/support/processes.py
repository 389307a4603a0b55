"""Processes that tests start: each ends with its block, and with this process, whatever ends that."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

BOUND = ("setpriv", "--pdeathsig", "KILL", "--")
"""Words before a command that let it die with its parent."""

PATIENCE = 30.0
"""Seconds from SIGTERM to SIGKILL."""


@contextlib.contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command while the block runs, then end it as Kubernetes would; `options` are Popen's."""
    with subprocess.Popen([*BOUND, *command], text=True, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
