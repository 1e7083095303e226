"""`search CONFIG`: the main job, from a config to a run folder with the best model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from alphanas.cli.common import add_json, coordinate_on_cpu, natural, positive, print_summary, resumable
from alphanas.config import load_config
from alphanas.errors import FAILED, UserError

HELP = """search for smaller, faster models that are as accurate

Writes a run folder with study.sqlite, report.html, summary.json and best/ (source, weights, graph). Stop it at any time with
Ctrl-C, or lose the machine: `resume` goes on from what was finished."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `search`."""
    parser.add_argument("config", metavar="CONFIG", help="a TOML file such as experiments/digits.toml")
    parser.add_argument("--out", metavar="DIR", help="run folder to make (default: runs/NAME of the config)")
    parser.add_argument("--seed", type=natural, metavar="N", help="the same as --set seed=N")
    parser.add_argument("--time-limit", metavar="TIME", help="such as 10m; the same as --set time_limit=TIME")
    parser.add_argument("--workers", type=positive, metavar="N", help="worker processes; the same as --set workers=N")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override keys of the config")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Searches, and prints seed beside best."""
    overrides = list(arguments.set)
    for key, value in (("seed", arguments.seed), ("time_limit", arguments.time_limit), ("workers", arguments.workers)):
        if value is not None:
            overrides.append(f"{key}={value}")
    config = load_config(arguments.config, overrides)
    folder = Path(arguments.out) if arguments.out else _fresh_folder(Path("runs") / Path(arguments.config).stem)
    _check_free(folder)

    from alphanas import driver
    from alphanas.report.progress import progress_on

    coordinate_on_cpu()
    with resumable(folder), progress_on(sys.stderr, quiet=arguments.quiet) as progress:
        progress.note(f"run folder: {folder}")
        study = driver.search(config, out=folder, progress=progress)
    summary = study.summary()
    print_summary(summary, folder, as_json=arguments.json)
    return FAILED if summary.get("status") == "failed" else 0


def _fresh_folder(wanted: Path) -> Path:
    """The folder, or the first of NAME-2, NAME-3, … that is not there."""
    folder, number = wanted, 2
    while folder.exists():
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder


def _check_free(folder: Path) -> None:
    """A folder of another study is never written over, and a place that cannot be a folder is told at once."""
    from alphanas.study import holds_study

    if holds_study(folder):
        remedy = f"give another --out, or go on with it: python -m alphanas resume {folder}"
        raise UserError(f"--out {folder}", saw="it already holds a study", remedy=remedy, cause="exists")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}", saw="a file", wanted="a folder, or a name that is free")
