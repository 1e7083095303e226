"""A search beside its baselines at equal budget: `python -m experiments.bench.search experiments/digits.toml` prints JSON.

Other sections: `throughput`, candidates a second through the cheap stages; `strategies CONFIG`, the hypervolume of all strategies
over several seeds; `workers`, how well the training stage uses several workers; `scaled DIR MODEL …`, networks trained as a study's
finalists were.

Every strategy runs the same configuration in a process of its own, one after the other, and so trains its own seed model with the
same seeds and recipe: evolution, random synthesis (the same proposals without selection), and the seed model scaled in width.
Accuracies are means over the training seeds on the test part. Memory is the largest resident size of the process and its children.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from experiments.bench import scaled, strategies, throughput, workers

SECTIONS = {"throughput": throughput.main, "strategies": strategies.main, "workers": workers.main, "scaled": scaled.main}
STRATEGIES = ("evolution", "random", "width_scaling")
SAMPLE_S = 0.5


def main() -> None:
    """Runs the strategies and prints one JSON object."""
    if sys.argv[1:2] and sys.argv[1] in SECTIONS:
        SECTIONS[sys.argv[1]](sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="a TOML file such as experiments/digits.toml")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="override keys of the config, for all alike")
    parser.add_argument("--keep", metavar="DIR", help="keep the run folders here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.keep or scratch)
        rows = {name: run(arguments.config, name, folder / name, arguments.set) for name in arguments.strategies.split(",")}
    print(json.dumps({"config": arguments.config, "set": arguments.set, "strategies": rows}, indent=2))


def run(config: str, strategy: str, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """What one strategy reached, from its summary.json, with the time and memory that it took."""
    settings = ["--set", f'search.strategy="{strategy}"', *overrides]
    began = time.monotonic()
    command = [sys.executable, "-m", "alphanas", "search", config, "--out", str(folder), "--quiet", *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(SAMPLE_S)
    if process.returncode:
        return {"failed": process.returncode}
    summary = json.loads((folder / "summary.json").read_text())
    seed, best = summary["seed"], summary["best"]
    return {
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mib": round(peak / 2**20),
        "counts": summary["counts"],
        "seed": seed,
        "best": best,
        "times_fewer_params": round(seed["params"] / best["params"], 2),
        "times_fewer_macs": round(seed["macs"] / best["macs"], 2),
        "accuracy_points": round(100 * (best["accuracy"]["mean"] - seed["accuracy"]["mean"]), 2),
    }


def resident(pid: int) -> int:
    """Bytes that a process and its children hold."""
    total = 0
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    main()
