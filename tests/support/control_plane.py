"""A real control plane for probes: etcd and kube-apiserver on loopback, with throw-away keys in a temporary folder.

`KUBEBUILDER_ASSETS` names the folder of the programs, as controller-runtime's envtest has it. A kube-controller-manager
beside them is started too, with just the controllers that finish deletions; without one, nothing collects garbage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import secrets
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.support import processes

VARIABLE = "KUBEBUILDER_ASSETS"
DEADLINE = 120.0
"""Seconds until the API must be ready; it takes ten on an idle machine."""


@dataclasses.dataclass(frozen=True)
class ControlPlane:
    """Where a running API is reached; `controllers` tells whether garbage is collected."""

    url: str
    token: str
    ca_file: pathlib.Path
    kubeconfig: pathlib.Path
    controllers: bool


def missing() -> str:
    """Return why no real control plane can be started here; empty when one can."""
    assets = os.environ.get(VARIABLE)
    if not assets:
        return f"{VARIABLE} is not set"
    absent = [name for name in ("etcd", "kube-apiserver") if not (pathlib.Path(assets) / name).exists()]
    return f"{VARIABLE} lacks {' and '.join(absent)}" if absent else ""


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[ControlPlane]:
    """Run a control plane while the block runs; state and logs lie in `folder`."""
    assets = pathlib.Path(os.environ[VARIABLE])
    etcd_client, etcd_peer, secure = _free_ports(3)
    token = secrets.token_hex(16)
    key_file, token_file, certificates = folder / "sa.key", folder / "tokens.csv", folder / "certificates"
    key_file.write_bytes(_new_key())
    token_file.write_text(f"{token},admin,admin,system:masters\n", encoding="utf-8")
    etcd_url = f"http://127.0.0.1:{etcd_client}"
    with contextlib.ExitStack() as exits:
        etcd = [
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls=http://127.0.0.1:{etcd_peer}",
            "--unsafe-no-fsync",
        ]
        exits.enter_context(_process([str(assets / "etcd"), *etcd], folder / "etcd.log"))
        apiserver = [
            f"--etcd-servers={etcd_url}",
            f"--secure-port={secure}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={certificates}",
            f"--token-auth-file={token_file}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://lab.invalid",
            f"--service-account-key-file={key_file}",
            f"--service-account-signing-key-file={key_file}",
            # Without their controllers, these would refuse or taint what the probes create.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
        ]
        exits.enter_context(_process([str(assets / "kube-apiserver"), *apiserver], folder / "apiserver.log"))
        url, ca_file = f"https://127.0.0.1:{secure}", certificates / "apiserver.crt"
        _await_ready(url, token, ca_file, folder / "apiserver.log")
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(_kubeconfig(url, token, ca_file), encoding="utf-8")
        manager = assets / "kube-controller-manager"
        if manager.exists():
            controllers = "garbage-collector-controller,namespace-controller,serviceaccount-controller"
            options = [
                f"--kubeconfig={kubeconfig}",
                f"--controllers={controllers}",
                "--secure-port=0",
                "--leader-elect=false",
            ]
            exits.enter_context(_process([str(manager), *options], folder / "manager.log"))
        yield ControlPlane(url, token, ca_file, kubeconfig, manager.exists())


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as exits:
        sockets = [exits.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _new_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


@contextlib.contextmanager
def _process(command: Sequence[str], log: pathlib.Path) -> Iterator[None]:
    with log.open("wb") as output, processes.running(command, stdout=output, stderr=output):
        yield


def _await_ready(url: str, token: str, ca_file: pathlib.Path, log: pathlib.Path) -> None:
    deadline = time.monotonic() + DEADLINE
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ssl.SSLError):
            context = ssl.create_default_context(cafile=str(ca_file))
            with urllib.request.urlopen(request, context=context, timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        time.sleep(0.2)
    raise TimeoutError(
        f"kube-apiserver is not ready after {DEADLINE:.0f} s:\n{log.read_text(errors='replace')[-2000:]}"
    )


def _kubeconfig(url: str, token: str, ca_file: pathlib.Path) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "real", "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
        "users": [{"name": "real", "user": {"token": token}}],
        "contexts": [{"name": "real", "context": {"cluster": "real", "user": "real", "namespace": "default"}}],
        "current-context": "real",
    }
    return yaml.safe_dump(config)
