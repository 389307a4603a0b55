"""The demo, in the order in which it happens."""

from __future__ import annotations

import contextlib
import fcntl
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import console as rich_console
from tests.lab import cache, progress, signals, state
from tests.lab import lab as lab_module
from tests.lab.demo import evidence, report, scene
from tests.lab.workloads import frames
from tests.support import clients, kubectl, migrations, pods, site

from podferry import errors

NAME = "demo"
FOLDER = Path(__file__).parent

POD = "sample"
ORDER = "sample-to-node-b"
"""Names in the manifests."""

TALK_SECONDS = 3.0
"""How long the clients talk before and after the move."""

CLIENTS: dict[str, dict[str, str | float]] = {
    "echo": {"mode": frames.ECHO, "connections": 10, "pace": 0.05},
}
"""What talks to the pod while it moves."""

LINE_WIDTH = 120
"""Characters of a line where there is no terminal to ask."""

FAILURES = (errors.PodferryError, kubectl.KubectlFailed, AssertionError, OSError)
"""What may go wrong on the way; anything else is a bug and shows its traceback."""


def run() -> int:
    """Run the demo; returns the exit status. The lab stays up only if all went well."""
    console = rich_console.Console(highlight=False)
    if not console.is_terminal:
        console.width = LINE_WIDTH
    with signals.unwinding(), contextlib.ExitStack() as undo:
        undo.enter_context(_alone())
        remove()
        lab_module.disks(progress.Bar())
        lab = lab_module.Lab(name=NAME, persistent=True)
        undo.callback(lab.close)
        stage = scene.Stage(console)
        try:
            with stage:
                found = _act(stage, lab)
        except FAILURES as error:
            console.print(f"[red]✗[/] failed: {stage.whereabouts()}")
            console.print(f"  {errors.tail(str(error))}", markup=False, soft_wrap=True)
            _keep_logs(console, lab)
            return 1
        except KeyboardInterrupt:
            console.print("interrupted")
            return 130
        problems = evidence.problems(found)
        console.print(report.render(found, problems))
        console.print(f"\nThe same as a page: {report.write_page(found)}", soft_wrap=True, markup=False)
        if problems:
            _keep_logs(console, lab)
            return 1
        _farewell(console, lab, found)
        undo.pop_all()
        lab.detach()
    return 0


def down() -> bool:
    """Take down the lab that an earlier demo left up; return whether there was one.

    Raises:
        Transient: a demo is running at this moment; it is not disturbed.
    """
    with _alone():
        return remove()


def remove() -> bool:
    """Remove the lab called `NAME`; return whether there was one. The caller has made sure that nobody uses it."""
    left = state.load(NAME)
    if left is not None:
        left.remove()
    return left is not None


def _act(stage: scene.Stage, lab: lab_module.Lab) -> evidence.Evidence:
    with stage.chore("two machines boot: own kernel, containerd, runc, CRIU"):
        lab.start()
    with stage.chore("Kubernetes API, kubelets and agents start"):
        here = site.boot(lab)
    with stage.chore("kubectl apply: CRD and RuntimeClass; the operator starts"):
        here.install()
    with stage.chore("kubectl apply: the sample pod and its Service"):
        here.cluster.apply(FOLDER / "sample.yaml")
        here.cluster.wait("condition=Ready", f"pod/{POD}", seconds=site.READY_SECONDS)
    address = here.address(POD)
    with contextlib.ExitStack() as running:
        with stage.chore(f"clients connect to {address} and talk"):
            talking = [running.enter_context(here.client(name, address, **how)) for name, how in CLIENTS.items()]
            for client in talking:
                client.wait_connected()
            running.enter_context(_glancing(stage, talking))
            time.sleep(TALK_SECONDS)
        with stage.chore("kubectl apply: move it"):
            here.cluster.apply(FOLDER / "migration.yaml")
            moved = migrations.follow(here.cluster, ORDER, site.MIGRATION_SECONDS, stage.migration)
            told = here.cluster.get(migrations.KIND, ORDER)
        with stage.chore("clients talk on, then both ends compare"):
            time.sleep(TALK_SECONDS)
            seen = [client.finish() for client in talking]
    with stage.chore("API and containerd are asked where the pod is"):
        placement = _placement(here, moved)
    return evidence.Evidence(moved, seen, placement, told)


def _placement(here: site.Site, moved: migrations.Migration) -> evidence.Placement:
    found = {pod["metadata"]["name"]: pod for pod in here.cluster.all("pods", f"app={POD}")}
    pod = found.get(moved.target_pod, {})
    return evidence.Placement(
        api_node=pod.get("spec", {}).get("nodeName", ""),
        ready=pods.is_ready(pod),
        source_pod_left=POD in found,
        running_on=here.running_on(pods.SAMPLE),
    )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the one right to run or remove the demo on this host."""
    with (cache.root() / f"{NAME}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.Transient("another demo is running on this host; end it with Ctrl-C") from error
        yield


@contextlib.contextmanager
def _glancing(stage: scene.Stage, talking: Sequence[clients.Client]) -> Iterator[None]:
    """Keep the clients' counters on stage up to date."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(1 / scene.REFRESH):
            stage.glances({client.name: seen for client in talking if (seen := client.glance()) is not None})

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _farewell(console: rich_console.Console, lab: lab_module.Lab, found: evidence.Evidence) -> None:
    moved = found.migration
    back = json.dumps(migrations.build("back", moved.target_pod, moved.source_node))
    console.print("\nThe lab stays up. Go on with kubectl:\n", style="bold")
    for line in (
        f'export KUBECONFIG={lab.kubeconfig} PATH="{Path(sys.executable).parent}:$PATH"',
        "kubectl get smig,pods,endpointslices -o wide",
        f"kubectl describe smig {moved.name}",
        f"kubectl apply -f - <<< '{back}'",
    ):
        console.print("  " + line, soft_wrap=True, markup=False)
    console.print("\n`make demo-down` leaves nothing behind.")


def _keep_logs(console: rich_console.Console, lab: lab_module.Lab) -> None:
    with contextlib.suppress(*FAILURES):
        console.print(f"the logs of every part are in {lab.collect_logs()}", markup=False)
