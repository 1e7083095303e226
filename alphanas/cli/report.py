"""`report DIR`: writes the report of a run folder again, also while its search is running."""

from __future__ import annotations

import argparse
from pathlib import Path

from alphanas.cli.common import add_json, print_json

HELP = """write report.html of a run folder again

Reads the study and never changes it, so that it may run while the search does."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `report`."""
    parser.add_argument("folder", metavar="DIR", help="run folder of a search")
    parser.add_argument("--out", metavar="PATH", help="file to write (default: DIR/report.html)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the report and prints its path; with `--json` the figures that it shows."""
    folder = Path(arguments.folder)

    from alphanas.report import write_report
    from alphanas.study import open_study

    study = open_study(folder)
    path = write_report(study, Path(arguments.out) if arguments.out else folder / "report.html")
    if arguments.json:
        print_json({"report": str(path), "summary": study.summary()})
        return 0
    print(path)
    return 0
