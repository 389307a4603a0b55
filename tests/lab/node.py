"""One node of the lab as a test sees it: run, put, get, services."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import channel, layout

from podferry import errors

_CHUNK = 1 << 18
"""Most bytes of a file in one message."""
_MARGIN = 15.0
"""Seconds that an answer may take longer than the command's own timeout."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command in a node ended; `code` is None when it took too long and was killed."""

    code: int | None
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Status:
    """What a node's supervisor says about a service."""

    pid: int | None
    """None when it is not running at this moment."""
    starts: int
    last_exit: int | None
    ready: bool
    """Whether it serves: containerd and the agent accept connections; the kubelet runs."""


class Service:
    """A service of a node: "containerd", "kubelet" or "agent". Once started it is started again whenever it ends."""

    def __init__(self, control: channel.Channel, name: str) -> None:
        self._control = control
        self.name = name

    def start(self, *, env: Mapping[str, str] | None = None, args: Sequence[str] = ()) -> Status:
        """Start it; `env` and `args` come on top of its own and hold until the next start or restart."""
        return self._do("start", env=dict(env or {}), args=list(args))

    def stop(self, *, timeout: float = 10.0) -> Status:
        """End it with SIGTERM, after `timeout` seconds with SIGKILL; it stays down."""
        return self._do("stop", timeout=timeout)

    def restart(self, *, env: Mapping[str, str] | None = None, args: Sequence[str] = ()) -> Status:
        """Stop, then start."""
        return self._do("restart", env=dict(env or {}), args=list(args))

    def kill(self) -> Status:
        """Send SIGKILL, as a crash would end it; it comes again within a second, with the same environment."""
        return self._do("kill")

    def status(self) -> Status:
        """Return what its supervisor says."""
        return self._do("status")

    def wait_ready(self, seconds: float = 240.0) -> Status:
        """Return once it serves.

        Raises:
            Transient: it does not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not (status := self.status()).ready:
            if time.monotonic() > deadline:
                raise errors.Transient(
                    f"{self._control.node}: {self.name} is not ready after {seconds:.0f} s: {status}"
                )
            time.sleep(0.1)
        return status

    def _do(self, verb: str, **fields: Any) -> Status:
        answer = self._control.ask("service", name=self.name, verb=verb, **fields)
        return Status(answer["pid"], answer["starts"], answer["last_exit"], answer["ready"])


class Node:
    """A booted node."""

    def __init__(self, name: str, index: int, control: channel.Channel) -> None:
        self.name = name
        self.index = index
        self.address = layout.node_address(index)
        self._control = control

    def run(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = 60.0,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a command as root and return how it ended; for shell syntax, run `"sh", "-c", "…"`.

        Raises:
            Permanent: with `check`, its code is not 0 or it took longer than `timeout` seconds.
        """
        given = None if stdin is None else base64.b64encode(stdin).decode()
        answer = self._control.ask(
            "exec", seconds=timeout + _MARGIN, argv=list(argv), timeout=timeout, stdin=given, env=dict(env or {})
        )
        done = Completed(answer["code"], answer["out"], answer["err"])
        if check and done.code != 0:
            ended = "took too long" if done.code is None else f"exit code {done.code}"
            raise errors.Permanent(f"{self.name}: {' '.join(argv)}: {ended}\n{done.out}{done.err}")
        return done

    def spawn(self, *argv: str, log: str, env: Mapping[str, str] | None = None) -> int:
        """Start a command, its output appended to the file `log` in the node; return its pid without waiting."""
        answer = self._control.ask("exec", argv=list(argv), detach=True, log=log, env=dict(env or {}))
        return int(answer["pid"])

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file, its folders made as needed."""
        for offset in range(0, len(data) or 1, _CHUNK):
            piece = base64.b64encode(data[offset : offset + _CHUNK]).decode()
            self._control.ask("put", path=path, data=piece, offset=offset, mode=mode)

    def get(self, path: str, offset: int = 0) -> bytes:
        """Return a file's content from `offset` on.

        Raises:
            Permanent: it cannot be read.
        """
        parts: list[bytes] = []
        while True:
            answer = self._control.ask("get", path=path, offset=offset, limit=_CHUNK)
            parts.append(base64.b64decode(answer["data"]))
            offset += len(parts[-1])
            if len(parts[-1]) < _CHUNK:
                return b"".join(parts)

    def service(self, name: str) -> Service:
        """Return the handle of one of the node's services."""
        return Service(self._control, name)

    def log(self, name: str) -> str:
        """Return what a service has written so far."""
        return self.get(f"{layout.LOG_DIR}/{name}.log").decode(errors="replace")

    def wait(self, what: str, seconds: float = 60.0) -> None:
        """Wait until `containerd` serves, or the node is `warm`: nothing runs in the background any more.

        Raises:
            Permanent: not within `seconds`.
        """
        self._control.ask("wait", seconds=seconds + _MARGIN, what=what, timeout=seconds)

    def install_certificate(self, folder: Path) -> None:
        """Give the agent the certificate in `folder`."""
        for name in ("ca.crt", "tls.crt", "tls.key"):
            self.put(f"{layout.TLS_DIR}/{name}", (folder / name).read_bytes(), 0o600)

    def impair(self, rule: str) -> None:
        """Let netem spoil what the node sends, as in `"delay 20ms loss 1%"` (tc-netem(8)); an empty rule ends it."""
        if rule:
            self.run("tc", "qdisc", "replace", "dev", "eth0", "root", "netem", *rule.split())
        else:
            self.run("tc", "qdisc", "delete", "dev", "eth0", "root", check=False)

    def booted(self, seconds: float) -> bool:
        """Return whether the node is up, waiting for it up to `seconds`."""
        return self._control.wait_hello(seconds)

    def disconnect(self) -> None:
        """Close the control channel; the node lives on."""
        self._control.close()
