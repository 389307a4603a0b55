"""The node's end of the control channel: one JSON object per line over a virtio-serial port, and the node's services.

    request   {"id": N, "op": OP, …}
    answer    {"id": N, "ok": true, …} or {"id": N, "ok": false, "error": "…"}; answers may come in another order
    once, at start   {"hello": NODE, "uptime": SECONDS}

Operations: `ping`, `exec`, `put`, `get`, `service`, `wait`. Every request runs in a thread of its own. File contents
and standard input are base64. Runs with nothing but the standard library, imported sparingly: it is on the boot path.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab import kernel_modules, layout
from tests.lab.guest import services

Message = dict[str, Any]


class Control:
    """What the operations work on."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._supervisors = {name: services.Supervisor(one, node) for name, one in services.SERVICES.items()}
        self._reached = {name: threading.Event() for name in ("containerd", "warm")}
        self._operations: dict[str, Callable[[Message], Message]] = {
            "ping": lambda _: {"time": time.time()},
            "exec": _execute,
            "put": _put,
            "get": _get,
            "service": self._service,
            "wait": self._wait,
        }

    def warm_up(self) -> None:
        """Start containerd, load the rest of the modules, let CRIU look at the kernel; in the background."""
        supervisor = self._supervisors["containerd"]
        supervisor.start({}, [])
        subprocess.run(["/sbin/modprobe", "-a", *kernel_modules.LATE], check=False)
        while not supervisor.status()["ready"]:
            time.sleep(0.02)
        self._reached["containerd"].set()
        # CRIU's first look at the kernel takes long and is kept in /run; pay for it here, not in a migration.
        subprocess.run(["/usr/sbin/criu", "check"], capture_output=True, check=False)
        self._reached["warm"].set()

    def answer(self, request: Message) -> Message:
        """Do what a request asks for and return the answer to it."""
        try:
            result = {"ok": True, **self._operations[request["op"]](request)}
        except Exception as error:  # whatever it was, the host has to see it
            result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        return {"id": request.get("id"), **result}

    def _service(self, request: Message) -> Message:
        supervisor = self._supervisors[request["name"]]
        verb = request["verb"]
        if verb in ("stop", "restart"):
            supervisor.stop(request.get("timeout", 10.0))
        if verb in ("start", "restart"):
            supervisor.start(request.get("env") or {}, request.get("args") or [])
        if verb == "kill":
            supervisor.signal(signal.SIGKILL)
        return supervisor.status()

    def _wait(self, request: Message) -> Message:
        if not self._reached[request["what"]].wait(request["timeout"]):
            raise TimeoutError(f"{request['what']} not reached in {request['timeout']} s")
        return {}


def _execute(request: Message) -> Message:
    """Run `argv` with optional `stdin`, `env`, `timeout`; `detach` returns at once and `log` then gets its output.

    Output goes to memory files and not to pipes: a grandchild that keeps a pipe would keep the answer too.
    """
    environment = {**os.environ, **(request.get("env") or {})}
    if request.get("detach"):
        with open(request["log"], "ab") as log:  # noqa: PTH123
            process = subprocess.Popen(
                request["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        threading.Thread(target=process.wait, daemon=True).start()
        return {"pid": process.pid}
    with os.fdopen(os.memfd_create("out"), "w+b") as out, os.fdopen(os.memfd_create("err"), "w+b") as err:
        given = request.get("stdin")
        process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
        )
        if process.stdin is not None:
            process.stdin.write(base64.b64decode(given or ""))
            process.stdin.close()
        try:
            code = process.wait(request.get("timeout", 60.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
        out.seek(0)
        err.seek(0)
        return {"code": code, "out": out.read().decode(errors="replace"), "err": err.read().decode(errors="replace")}


def _put(request: Message) -> Message:
    """Write a piece of a file at `offset`; the file ends there."""
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT), "wb") as file:  # noqa: PTH123
        file.truncate(request["offset"])
        file.seek(request["offset"])
        file.write(base64.b64decode(request["data"]))
    path.chmod(request["mode"])
    return {}


def _get(request: Message) -> Message:
    """Return up to `limit` bytes of a file from `offset` on."""
    with open(request["path"], "rb") as file:  # noqa: PTH123
        file.seek(request["offset"])
        return {"data": base64.b64encode(file.read(request["limit"])).decode()}


def _open_port() -> int:
    """Open the control port, wherever the kernel put it.

    Raises:
        RuntimeError: there is none.
    """
    for port in Path("/sys/class/virtio-ports").iterdir():
        if (port / "name").read_text().strip() == layout.CONTROL_PORT:
            return os.open(f"/dev/{port.name}", os.O_RDWR)
    raise RuntimeError(f"no virtio-serial port {layout.CONTROL_PORT}")


def _write(port: int, lock: threading.Lock, message: Message) -> None:
    data = memoryview((json.dumps(message) + "\n").encode())
    with lock:
        while data:
            data = data[os.write(port, data) :]


def main() -> None:
    """Serve the control channel for as long as the node lives."""
    Path(layout.LOG_DIR).mkdir(parents=True, exist_ok=True)
    control = Control(socket.gethostname())
    threading.Thread(target=control.warm_up, daemon=True).start()
    port, lock = _open_port(), threading.Lock()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    _write(port, lock, {"hello": control.node, "uptime": uptime})

    def serve(line: bytes) -> None:
        _write(port, lock, control.answer(json.loads(line)))

    pending: list[bytes] = []
    while True:
        data = os.read(port, 65536)
        if not data:  # nobody is connected on the host's side; there is nothing to poll on
            time.sleep(0.05)
        # Reads bring a page at a time: a long line is joined once, when its end is there.
        *lines, rest = data.split(b"\n")
        for line in lines:
            threading.Thread(target=serve, args=(b"".join((*pending, line)),), daemon=True).start()
            pending.clear()
        pending.append(rest)
