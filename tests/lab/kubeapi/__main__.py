"""Command line: serve an empty cluster until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import logging
import pathlib
import signal
import socket
import sys

from . import kubeconfig
from .server import Server


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.kubeapi", description="A small Kubernetes API in memory."
    )
    parser.add_argument(
        "--fd", type=int, action="append", default=[], help="inherited listening socket; may be repeated"
    )
    parser.add_argument("--listen", type=_address, metavar="HOST:PORT", help="default without --fd: 127.0.0.1:0")
    parser.add_argument(
        "--write-kubeconfig", type=pathlib.Path, metavar="PATH", help="written once requests are answered"
    )
    parser.add_argument("--debug", action="store_true", help="log every request to standard error")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    listen = arguments.listen or (None if arguments.fd else ("127.0.0.1", 0))
    sockets = [socket.socket(fileno=fd) for fd in arguments.fd]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Server(sockets, listen=listen) as server:
        if arguments.write_kubeconfig:
            kubeconfig.write(arguments.write_kubeconfig, server.url)
        sys.stdout.write(f"serving {server.url}\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Run the command."""
    arguments = _arguments()
    logging.basicConfig(level=logging.DEBUG if arguments.debug else logging.WARNING, stream=sys.stderr)
    asyncio.run(_serve(arguments))


main()
