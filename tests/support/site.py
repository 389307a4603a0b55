"""A lab with podferry installed in it: the demo and the end-to-end tests go through it to kubectl, TCP and nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.lab import lab as lab_module
from tests.lab.workloads import frames
from tests.support import clients, kubectl, migrations, nodes

CRD = lab_module.REPOSITORY / "crds/podferry.dev_servicemigrations.yaml"
RUNTIME_CLASS = lab_module.REPOSITORY / "tests/lab/demo/runtimeclass.yaml"
READY_SECONDS = 300.0
"""Bounds on hanging, not on speed: an emulated node on a busy machine is ten and more times slower than a real one."""
MIGRATION_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Site:
    """A running lab and kubectl for it. Steps to one: `Lab.start`, `boot`, `install`."""

    lab: lab_module.Lab
    cluster: kubectl.Kubectl

    def install(self) -> None:
        """Apply the CRD and the RuntimeClass, then start the operator."""
        self.cluster.apply(CRD, RUNTIME_CLASS)
        self.cluster.wait("condition=Established", f"crd/{migrations.KIND}", seconds=READY_SECONDS)
        self.lab.start_operator()

    def run(self, *objects: kubectl.Object) -> None:
        """Apply objects and wait until every pod among them is Ready."""
        self.cluster.apply_object(*objects)
        names = [f"pod/{one['metadata']['name']}" for one in objects if one["kind"] == "Pod"]
        self.cluster.wait("condition=Ready", *names, seconds=READY_SECONDS)

    def address(self, pod: str, port: int = frames.PORT) -> str:
        """Return "ip:port" of a pod."""
        return f"{self.cluster.get('pod', pod)['status']['podIP']}:{port}"

    def client(self, name: str, address: str, **options: str | float) -> clients.Client:
        """Start a client of `address` in the clients' namespace; options are the client's own (`mode="sink"`)."""
        return clients.Client(name, address, self.lab.folder / "clients", self.lab.client_prefix, **options)

    def migrate(self, pod: str, node: str, seconds: float = MIGRATION_SECONDS, **spec: object) -> migrations.Migration:
        """Move a pod with kubectl and return how that ended."""
        return migrations.migrate(self.cluster, pod, node, seconds, **spec)

    def running_on(self, container: str) -> list[str]:
        """Return the nodes whose containerd runs a container of that name, in the default namespace."""
        return [
            name
            for name, node in self.lab.nodes.items()
            if "RUNNING" in nodes.tasks(node, container_name=container, pod_namespace="default").values()
        ]

    def remove(self, *names: str) -> None:
        """Delete pods and all migrations, so that the next test finds the site empty."""
        for found in self.cluster.all(migrations.KIND):
            self.cluster.delete(migrations.KIND, found["metadata"]["name"])
        for name in names:
            for found in self.cluster.all("pods", f"app={name}"):
                self.cluster.delete("pod", found["metadata"]["name"])


def boot(lab: lab_module.Lab, agent_env: Mapping[str, str] | None = None) -> Site:
    """Start the Kubernetes API, kubelets and agents in a started lab and wait until its nodes are Ready."""
    lab.start_api()
    site = Site(lab, kubectl.Kubectl(lab.kubeconfig))
    lab.start_nodes(agent_env=agent_env)
    site.cluster.wait("condition=Ready", *(f"node/{name}" for name in lab.nodes), seconds=READY_SECONDS)
    return site
