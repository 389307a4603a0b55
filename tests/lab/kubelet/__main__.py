"""`python3 -m tests.lab.kubelet --node NAME --api URL`: runs until SIGTERM; the pods run on."""

from __future__ import annotations

import argparse
import logging
import signal
import threading

from tests.lab import kubehttp
from tests.lab.kubelet import cri, events, host, kubelet, node, settings


def _arguments() -> settings.Settings:
    parser = argparse.ArgumentParser(prog="kubelet", description="The lab's kubelet.")
    parser.add_argument("--node", required=True, help="name of this node")
    parser.add_argument("--api", required=True, help="URL of the API server")
    parser.add_argument("--cri", default=settings.Settings.cri, help="the runtime's socket (%(default)s)")
    parser.add_argument("--node-ip", default="", help="InternalIP (default: the address towards the API server)")
    parser.add_argument(
        "--runtime-request-timeout",
        type=float,
        default=settings.Settings.runtime_request_timeout,
        help="seconds for a call on the runtime (%(default)s)",
    )
    return settings.Settings(**vars(parser.parse_args()))


def main() -> None:
    """Wire everything and run."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname).1s %(message)s", datefmt="%H:%M:%S"
    )
    given = _arguments()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    client = kubehttp.Client(given.api)
    runtime = cri.Runtime(given.cri, given.runtime_request_timeout)
    recorder = events.Recorder(client, given.node)
    ip = given.node_ip or node.address_towards(given.api)
    heart = node.Heart(client, runtime, given, ip)
    recorder.start()
    threading.Thread(target=heart.run, args=(ended,), name="heart", daemon=True).start()
    kubelet.Kubelet(host.Host(given, client, runtime, recorder, ip, node.memory())).run(ended)


if __name__ == "__main__":
    main()
