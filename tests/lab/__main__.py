"""The lab's command line: `python -m tests.lab demo`, and what a curious user wants of a lab that is up.

demo                a live pod moves from node-a to node-b; leaves the lab up when all went well
down                take that lab down; nothing is left behind
logs                copy the logs of all its parts into build/lab-logs/demo
run NODE COMMAND    run a command as root in one of its nodes, for instance: run node-b ctr -n k8s.io tasks list
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from tests.lab import lab as lab_module
from tests.lab.demo import story

from podferry import errors


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        match arguments:
            case ["demo"]:
                return story.run()
            case ["down"]:
                say("the lab is down" if story.down() else "no lab was up")
                return 0
            case ["logs"]:
                say(str(attached().collect_logs()))
                return 0
            case ["run", node, *command] if command:
                return run(node, command)
    except errors.PodferryError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    say(__doc__ or "")
    return 2


def run(node: str, command: Sequence[str]) -> int:
    """Run a command in a node of the lab that is up; returns its exit status."""
    nodes = attached().nodes
    if node not in nodes:
        raise errors.InvalidInput("node", f"{node} is none of {', '.join(nodes)}")
    done = nodes[node].run(*command, check=False)
    sys.stdout.write(done.out)
    sys.stderr.write(done.err)
    return 1 if done.code is None else done.code


def attached() -> lab_module.Lab:
    """Return the lab that the demo has left up."""
    return lab_module.Lab.attach(story.NAME)


def say(text: str) -> None:
    """Write a line for the user."""
    sys.stdout.write(text.rstrip() + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
