"""`report DIR`: writes the report of a run folder again, also while its search is running."""

from __future__ import annotations

import argparse
from pathlib import Path

from alphanas.cli.common import add_json, natural, print_json
from alphanas.errors import UserError

SUFFIXES = {"html": "report.html", "csv": "candidates.csv", "parquet": "candidates.parquet", "tensorboard": "tensorboard"}
"""Format → what is written into DIR unless --out says otherwise."""

HELP = """write report.html of a run folder again, or its candidates as a table

Reads the study and never changes it, so that it may run while the search does. `csv` and `parquet` have one row a candidate;
`tensorboard` is a log folder. `dashboard` shows the report live."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `report`."""
    parser.add_argument("folder", metavar="DIR", help="run folder of a search")
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="html", help="what to write (default: html)")
    parser.add_argument("--candidate", type=natural, metavar="ID", help="the page of one candidate in place of the report")
    parser.add_argument("--out", metavar="PATH", help="file or folder to write (default: in DIR)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the report and prints its path; with `--json` the figures that it shows."""
    folder = Path(arguments.folder)

    from alphanas.report import write_candidate, write_report
    from alphanas.report.tables import FORMATS
    from alphanas.study import open_study

    if arguments.candidate is not None and arguments.format != "html":
        raise UserError(f"--format {arguments.format}", saw="--candidate too", wanted="html for a candidate's page")
    study = open_study(folder)
    name = SUFFIXES[arguments.format] if arguments.candidate is None else f"candidate-{arguments.candidate}.html"
    path = Path(arguments.out) if arguments.out else folder / name
    if arguments.candidate is not None:
        write_candidate(study, arguments.candidate, path)
    elif arguments.format == "html":
        write_report(study, path)
    else:
        FORMATS[arguments.format](study, path)
    if arguments.json:
        print_json({"report": str(path), "summary": study.summary()})
        return 0
    print(path)
    return 0
