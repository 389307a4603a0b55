"""A whole lab: nodes, network, Kubernetes API, operator. A context manager; the demo leaves its lab up.

    with Lab() as lab:
        lab.start_api()
        lab.start_nodes()
        lab.nodes["node-a"].run("ip", "address")

Starting a lab boots its nodes with containerd and nothing more; everything else is started on request.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import IO, Any, Self

from tests.lab import (
    certificates,
    channel,
    container_images,
    layout,
    logs,
    machine,
    network,
    node_image,
    progress,
    project_disk,
    python_disk,
    signals,
    slots,
    state,
)
from tests.lab import node as lab_node
from tests.lab.kubeapi import kubeconfig

from podferry import errors, ids

NODES = ("node-a", "node-b")
BOOT_SECONDS = 180.0
API_SECONDS = 20.0
REPOSITORY = project_disk.REPOSITORY


def disks(report: progress.Reporter) -> machine.Disks:
    """Return all that nodes boot from, made as far as the cache does not have it."""
    node = node_image.get(report)
    return machine.Disks(node, python_disk.get(report), project_disk.get(report), container_images.get(node, report))


class Lab:
    """Two nodes (or those named) on one network.

    `name` distinguishes labs on one host. A `persistent` lab outlives its process when `detach` is called; any process
    can remove it with `state.load(name).remove()`, or go on with it with `Lab.attach(name)`.
    """

    def __init__(
        self,
        nodes: Sequence[str] = NODES,
        *,
        name: str = "",
        persistent: bool = False,
        report: progress.Reporter | None = None,
    ) -> None:
        self.name = name or f"lab-{os.getpid()}"
        self.nodes: dict[str, lab_node.Node] = {}
        self.failed = False
        """Set it when something went wrong that left no exception here; the logs are then kept."""
        self._names = tuple(nodes)
        self._persistent = persistent
        self._report = report or progress.Lines()
        # A tag of at most 8 characters keeps interface and namespace names short.
        self._network = network.Network(f"{os.getpid()}")
        owner = None if persistent else state.process("owner", os.getpid())
        namespaces = [self._network.namespace, self._network.client_namespace]
        self._state = state.State(self.name, owner, namespaces, nodes=list(nodes))
        self._authority = certificates.Authority()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._exit = contextlib.ExitStack()
        self._slot: IO[str] | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._exit.enter_context(signals.unwinding())
        try:
            self.start()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.failed = self.failed or (kind is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit)))
        with self._exit:
            self.close()

    def start(self) -> None:
        """Make the network, boot the nodes and wait until containerd has its images."""
        state.sweep()
        if state.load(self.name) is not None:
            raise errors.Permanent(f"a lab called {self.name} is up already", reason="LabExists")
        found = disks(self._report)
        self._slot = slots.take()
        options = machine.accelerator(found.node)
        self._state.save()
        self._network.create(self._names)
        for index, name in enumerate(self._names, 1):
            argv = machine.command_line(name, index, found, self.folder, options)
            self._spawn(name, network.inside(self._network.namespace, argv))
        for index, name in enumerate(self._names, 1):
            self._connect(name, index)
        for name, node in self.nodes.items():
            self._wait_booted(name)
            self._issue(node)
        self.each(lambda node: node.wait("containerd", BOOT_SECONDS))

    @classmethod
    def attach(cls, name: str) -> Self:
        """Return the lab that another process has left up under `name`.

        Raises:
            Permanent: there is none.
        """
        found = state.load(name)
        if found is None:
            raise errors.Permanent(f"no lab called {name} is up", reason="NoLab")
        lab = cls(found.nodes, name=name, persistent=True)
        lab._state = found
        lab._network.namespace, lab._network.client_namespace = found.namespaces
        for index, node in enumerate(found.nodes, 1):
            lab._connect(node, index)
            lab.nodes[node]._control.ask("ping", seconds=10)
        return lab

    def detach(self) -> None:
        """Leave the lab up and let go of it; only for a persistent one."""
        self._exit.pop_all()
        for node in self.nodes.values():
            node.disconnect()

    def close(self) -> None:
        """Stop and remove everything; keep the logs first if something failed."""
        with signals.uninterrupted():
            if self.failed:
                with contextlib.suppress(errors.PodferryError, OSError):
                    self.collect_logs()
            for node in self.nodes.values():
                with contextlib.suppress(OSError):
                    node.disconnect()
            self._state.remove()
            for child in self._children.values():
                child.wait()
            if self._slot is not None:
                self._slot.close()

    # -- places ----------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Return the folder of this lab's sockets, consoles, certificates and host-side logs; gone after `close`."""
        return self._state.folder

    @property
    def kubeconfig(self) -> Path:
        """Return the kubeconfig for use on this host (loopback); there after `start_api`."""
        return self.folder / "kubeconfig"

    @property
    def client_prefix(self) -> list[str]:
        """Return the words before a command that runs it where clients are: 10.77.0.100, outside every node."""
        return network.inside(self._network.client_namespace, [])

    @property
    def lab_prefix(self) -> list[str]:
        """Return the words before a command that runs it where API and operator are: 10.77.0.254."""
        return network.inside(self._network.namespace, [])

    # -- doing things ----------------------------------------------------------------------------------------------

    def client(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process in the clients' namespace; `options` are Popen's. The caller ends it."""
        return subprocess.Popen([*self.client_prefix, *argv], **options)

    def in_lab(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process in the lab's namespace; `options` are Popen's. The caller ends it."""
        return subprocess.Popen([*self.lab_prefix, *argv], **options)

    def each(self, do: Callable[[lab_node.Node], None]) -> None:
        """Do something with all nodes at the same time; the first failure is raised."""
        with futures.ThreadPoolExecutor(len(self.nodes)) as pool:
            for done in [pool.submit(do, node) for node in self.nodes.values()]:
                done.result()

    def cut(self, node: str) -> None:
        """Take a node off the network."""
        self._network.cut(node)

    def restore(self, node: str) -> None:
        """Put it back."""
        self._network.restore(node)

    @contextlib.contextmanager
    def cut_off(self, node: str) -> Iterator[None]:
        """Take a node off the network while inside."""
        self.cut(node)
        try:
            yield
        finally:
            self.restore(node)

    # -- parts on the host -----------------------------------------------------------------------------------------

    def start_api(self) -> None:
        """Start the Kubernetes API, on loopback for users, on `layout.API_ADDRESS` for nodes, and the controllers."""
        outside = socket.create_server(("127.0.0.1", 0))
        inside = self._network.listen(layout.API_ADDRESS, layout.API_PORT)
        url = f"http://127.0.0.1:{outside.getsockname()[1]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with outside, inside:
            fds = [outside.fileno(), inside.fileno()]
            words = [word for fd in fds for word in ("--fd", str(fd))]
            self._spawn_python("api", "tests.lab.kubeapi", *words, "--write-kubeconfig", str(self.kubeconfig), fds=fds)
        self._wait_part("api", self.kubeconfig.exists, API_SECONDS)
        kubeconfig.write(self.folder / "kubeconfig.lab", f"http://{layout.API_ADDRESS}:{layout.API_PORT}")
        self._state.kubeconfig = str(self.kubeconfig)
        self._spawn_python("controllers", "tests.lab.controllers", "--api", url)

    def start_nodes(self, *, agent_env: Mapping[str, str] | None = None) -> None:
        """Start kubelet and agent on every node and wait until the agents serve."""

        def start(node: lab_node.Node) -> None:
            node.service("kubelet").start()
            node.service("agent").start(env=agent_env)
            node.service("agent").wait_ready()

        self.each(start)

    def start_operator(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        """Start the operator in the lab's namespace; also after `stop_operator`."""
        tls = self.folder / "tls/operator"
        if not tls.exists():
            self._authority.issue(tls, ids.OPERATOR_SERVER_NAME)
        environment = {"KUBECONFIG": str(self.folder / "kubeconfig.lab"), **(env or {})}
        words = ["--tls-dir", str(tls), *arguments]
        self._spawn_python("operator", "podferry_operator", *words, prefix=self.lab_prefix, env=environment)

    def stop_operator(self, *, kill: bool = False) -> None:
        """End the operator by SIGTERM, or at once by SIGKILL."""
        child = self._children.pop("operator")
        child.kill() if kill else child.terminate()
        child.wait(30)

    def part_log(self, name: str) -> str:
        """Return what a part on the host ("api", "controllers", "operator", a node's QEMU) has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def collect_logs(self, name: str = "") -> Path:
        """Copy the logs of every part into build/lab-logs/NAME/ (the lab's name by default) and return that folder."""
        return logs.collect(self.folder, self.nodes.values(), REPOSITORY / "build/lab-logs" / (name or self.name))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _connect(self, name: str, index: int) -> None:
        control = channel.connect(machine.control_socket(self.folder, name), name, 10)
        self.nodes[name] = lab_node.Node(name, index, control)

    def _wait_booted(self, name: str) -> None:
        child, deadline = self._children[name], time.monotonic() + BOOT_SECONDS
        while not self.nodes[name].booted(0.5):
            if child.poll() is not None or time.monotonic() > deadline:
                said = machine.console(self.folder, name).read_text(errors="replace") + self.part_log(name)
                raise errors.Permanent(f"{name} did not boot: {said}", reason="BootFailed")

    def _issue(self, node: lab_node.Node) -> None:
        folder = self.folder / "tls" / node.name
        self._authority.issue(folder, ids.agent_server_name(node.name), [node.address])
        node.install_certificate(folder)

    def _spawn_python(
        self,
        name: str,
        module: str,
        *arguments: str,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
    ) -> None:
        self._spawn(name, [*prefix, sys.executable, "-m", module, *arguments], env=env, fds=fds)

    def _spawn(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, fds: Sequence[int] = ()
    ) -> None:
        """Start a part on the host, output to FOLDER/NAME.log. It ends with this process, unless persistent."""
        bound = [] if self._persistent else ["setpriv", "--pdeathsig", "KILL"]
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*bound, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                pass_fds=fds,
                start_new_session=True,
            )
        self._children[name] = child
        self._state.processes.append(state.process(name, child.pid))
        self._state.save()

    def _wait_part(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if self._children[name].poll() is not None or time.monotonic() > deadline:
                raise errors.Permanent(f"{name} did not start: {self.part_log(name)}", reason="PartFailed")
            time.sleep(0.05)
