"""`resume DIR`: goes on with a search that was stopped, by whatever it was."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from alphanas.cli.common import add_json, coordinate_on_cpu, print_summary, resumable
from alphanas.errors import FAILED

HELP = """go on with a search that was stopped or killed

Nothing that was finished is done again. A search that is done stays as it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `resume`."""
    parser.add_argument("folder", metavar="DIR", help="run folder of a search")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Resumes, and prints seed beside best."""
    folder = Path(arguments.folder)

    from alphanas import driver
    from alphanas.report.progress import progress_on

    coordinate_on_cpu()
    with resumable(folder), progress_on(sys.stderr, quiet=arguments.quiet) as progress:
        study = driver.resume(folder, progress=progress)
    summary = study.summary()
    print_summary(summary, folder, as_json=arguments.json)
    return FAILED if summary.get("status") == "failed" else 0
