"""`python -m tests.lab.controllers --api URL`: runs until SIGTERM."""

from __future__ import annotations

import argparse
import logging

from tests.lab import kubehttp
from tests.lab.controllers import endpoint_slices


def main() -> None:
    """Wire everything and run."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname).1s %(message)s", datefmt="%H:%M:%S"
    )
    parser = argparse.ArgumentParser(prog="controllers", description="The lab's EndpointSlice controller.")
    parser.add_argument("--api", required=True, help="URL of the API server")
    endpoint_slices.EndpointSlices(kubehttp.Client(parser.parse_args().api)).run()


if __name__ == "__main__":
    main()
