"""All strategies at equal budget: how the hypervolume of the front grows with the candidates trained, as JSON.

    python -m experiments.bench.search strategies experiments/digits.toml [--seeds 3] [--candidates 24] [--keep DIR]

Each strategy searches with each seed until so many candidates are proposed, in a process of its own. All have the configuration's
recipe for the short training; the finish is cut to as little, for nothing of it is looked at. `at` gives the hypervolume after so
many candidates were trained, as a share of the box between zero and the reference point (twice the seed's error, or 2 points more,
and the seed's sizes): the median over the seeds, the least and the largest. `ahead_of_random` is the difference at the end, seed by
seed. With --keep, run folders stay, and those that are done are not searched again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import alphanas
from alphanas.config import load_config
from alphanas.report.history import hypervolumes
from alphanas.search.strategies import STRATEGIES

LIMIT = "2h"
CUT = ("finish.finalists=1", "finish.seeds=1", "finish.extra_seeds=0", "hardware.backends=[]")
STEPS = 4
"""Points of each curve that are printed."""

Curve = Sequence[tuple[int, float]]


def main(arguments: list[str]) -> None:
    """Runs what is not there yet and prints one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bench.search strategies", description="All strategies at equal budget."
    )
    parser.add_argument("config", help="a TOML file such as experiments/digits.toml")
    parser.add_argument("--only", default=",".join(STRATEGIES), help="names of strategies with commas between")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="override keys of the config, for all alike")
    parser.add_argument("--keep", metavar="DIR", help="keep the run folders here")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.keep or scratch)
        # Seed by seed, so that a run that is cut short has as many of each.
        curves: dict[str, list[Curve]] = {name: [] for name in names}
        for seed in range(options.seeds):
            for name in names:
                curves[name].append(searched(options, name, seed, folder / f"{name}-{seed}"))
    rows = {name: row(found, options.candidates) for name, found in curves.items()}
    told = {"config": options.config, "set": options.set, "candidates": options.candidates, "seeds": options.seeds}
    print(json.dumps({**told, "strategies": rows, "ahead_of_random": ahead(curves)}, indent=2))


def searched(options: argparse.Namespace, strategy: str, seed: int, folder: Path) -> Curve:
    """(candidates trained, hypervolume) of one search, where it grew and at the end."""
    if not _done(folder):
        short = load_config(options.config, options.set).training.short_epochs
        settings = [f'search.strategy="{strategy}"', f"search.max_candidates={options.candidates}", *options.set, *CUT]
        settings.append(f"training.epochs={short}")
        command = [sys.executable, "-m", "alphanas", "search", options.config, "--out", str(folder), "--quiet"]
        command += ["--seed", str(seed), "--time-limit", LIMIT, *(word for each in settings for word in ("--set", each))]
        print(f"{strategy}, seed {seed}", file=sys.stderr, flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return hypervolumes(alphanas.open_study(folder))


def _done(folder: Path) -> bool:
    summary = folder / "summary.json"
    return summary.exists() and json.loads(summary.read_text())["status"] == "done"


def row(curves: Sequence[Curve], candidates: int) -> dict[str, Any]:
    """One strategy's figures over its seeds."""
    counts = [candidates * step // STEPS for step in range(1, STEPS + 1)]
    found = {count: [_at(curve, count) for curve in curves] for count in counts}
    shown = {str(n): {"median": statistics.median(v), "least": min(v), "largest": max(v)} for n, v in found.items()}
    return {"trained": [curve[-1][0] if curve else 0 for curve in curves], "at": shown}


def ahead(curves: Mapping[str, Sequence[Curve]]) -> dict[str, list[float]]:
    """By how much each strategy's hypervolume at the end is larger than random synthesis's of the same seed."""
    if "random" not in curves:
        return {}
    ends = {name: [_at(curve, sys.maxsize) for curve in found] for name, found in curves.items()}
    return {
        name: [mine - other for mine, other in zip(found, ends["random"], strict=True)]
        for name, found in ends.items()
        if name != "random"
    }


def _at(curve: Curve, count: int) -> float:
    return max((volume for trained, volume in curve if trained <= count), default=0.0)
