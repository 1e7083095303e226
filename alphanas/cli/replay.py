"""`replay DIR`: checks a study against its log, and says what differs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from alphanas.cli.common import add_json, print_json
from alphanas.errors import FAILED

HELP = """check a study against its log

Makes every proposal again from the archive of its time and compares graph hashes; derives costs, the Pareto front and the choice
of the best anew; checks every file against its hash. Trains, measures and writes nothing. Exit code 1 when anything differs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `replay`."""
    parser.add_argument("folder", metavar="DIR", help="run folder of a search")
    parser.add_argument("--no-proposals", action="store_true", help="check rows and files only, which takes seconds")
    parser.add_argument("--run-code", action="store_true", help="run the code that the config names, to propose again")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Replays, and prints what differs."""
    from alphanas.driver.replay import replay

    found = replay(Path(arguments.folder), proposals=not arguments.no_proposals, run_code=arguments.run_code)
    if arguments.json:
        print_json(
            {
                "checked": found.checked,
                "differences": [vars(one) for one in found.differences],
                "left_out": found.left_out,
            }
        )
        return FAILED if found.differences else 0
    for difference in found.differences:
        print(difference)
    for text in found.left_out:
        print(f"not compared: {text}", file=sys.stderr)
    counts = ", ".join(f"{count:,} {what}" for what, count in found.checked.items())
    print(f"{len(found.differences)} differences; checked: {counts}")
    return FAILED if found.differences else 0
