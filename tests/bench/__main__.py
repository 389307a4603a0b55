"""The command line: `python -m tests.bench net [--quick]` measures, `report` fills docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys

from tests.bench import net, report, results, trace
from tests.lab import signals


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("what", choices=["net", "report"])
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    arguments = parser.parse_args()
    if arguments.what == "report":
        report.write()
        return
    with signals.unwinding():
        figures = net.run(say, quick=arguments.quick)
        if not arguments.quick:
            trace.record(say)
    results.merge(figures)
    report.charts(results.load(), results.FOLDER)
    for key, value in sorted(figures.items()):
        if not key.endswith((".min", ".max")):
            say(f"{key:<36} {value:.4g}")


def say(text: str) -> None:
    """Write a line for whoever waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
