"""How well zero-cost scores order trained accuracy: `python -m experiments.bench.ranking` prints JSON.

Cells of NAS-Bench-201 drawn uniformly, their whole networks from the zoo with fresh weights, one minibatch of CIFAR-10 (or of
another `.npz` file); beside them the table's accuracy of each cell. A score that is undefined for a cell counts as the lowest.
Kendall's tau with a 95% interval, Spearman's rho, tau among the best tenth by accuracy, and the seconds of a cell (median and
quartiles; the first cells compile). Combinations (`naswot+synflow`) are of ranks, and cost nothing beyond their parts.

`--settings` adds NASWOT as it is computed elsewhere: other sizes of the minibatch (published: 128), PyTorch's initial weights
(uniform, within one by the root of the fan-in), and accuracies on other data; beside the parameters, all on the same cells.

`whole_table` says what can be expected of any score that goes with size: tau, over all cells of the table, of nine times the 3×3
convolutions of a cell plus its 1×1 ones, which needs no network. With accuracies after 200 epochs it is known to be 0.578.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.stats import kendalltau

from alphanas.models import zoo
from alphanas.scoring import proxies
from alphanas.scoring.compiled import share_compilations
from alphanas.scoring.naswot import naswot
from alphanas.scoring.ranking import combined, correlation
from synth import Graph
from synth.graph import Variables

BATCHES = (16, 64, 128)
COLUMNS = ("cifar10-test", "cifar10-val", "cifar100-test", "imagenet-test")
DATA = Path("../shared/data")
SCORES = "naswot,jacobian,synflow,fisher,gradnorm,snip,params,macs,naswot+synflow,naswot+jacobian,naswot+params"


def main() -> None:
    """Scores the cells and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64, help="pictures of a minibatch for naswot")
    parser.add_argument("--small-batch", type=int, default=16, help="pictures of a minibatch for scores with a backward pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scores", default=SCORES)
    parser.add_argument("--accuracy", default="cifar10-test", help="column of the table")
    parser.add_argument("--table", type=Path, default=DATA / "nasbench201_12ep.csv")
    parser.add_argument("--pictures", type=Path, default=DATA / "cifar10.npz")
    parser.add_argument("--settings", action="store_true", help="NASWOT with other minibatches and initial weights, too")
    parser.add_argument("--compilations", help="a folder of compiled functions to read and to add to")
    arguments = parser.parse_args()
    if arguments.compilations:
        share_compilations(arguments.compilations)
    names = tuple(arguments.scores.split(","))
    plain = tuple(dict.fromkeys(part for name in names for part in proxies.parts(name)))
    rows = list(csv.DictReader(arguments.table.open()))
    drawn = np.random.default_rng(arguments.seed).choice(len(rows), min(arguments.cells, len(rows)), replace=False)
    accuracies = [float(rows[index][arguments.accuracy]) for index in drawn]
    pictures, labels = minibatch(arguments.pictures, arguments.batch, arguments.seed)
    many, _ = minibatch(arguments.pictures, max(BATCHES), arguments.seed)
    others: dict[str, list[float]] = {}
    values: dict[str, list[float]] = {name: [] for name in plain}
    seconds: dict[str, list[float]] = {name: [] for name in plain}
    for number, index in enumerate(drawn):
        graph = zoo.build(f"nasbench201:{rows[index]['cellstr']}", input_shape=pictures.shape[1:], num_classes=10)
        for name in plain:
            size = arguments.small_batch if proxies.PROXIES[name].passes > 1 else arguments.batch
            began = time.monotonic()
            found = proxies.score(graph, pictures[:size], labels[:size], kind=name, seed=arguments.seed)
            seconds[name].append(time.monotonic() - began)
            values[name].append(float("-inf") if found is None else found)
        for name, value in settings_of(graph, many, arguments.seed).items() if arguments.settings else ():
            others.setdefault(name, []).append(value)
        print(f"{number + 1} of {len(drawn)} cells", end="\r", file=sys.stderr)
    table = {name: report([values[part] for part in proxies.parts(name)], accuracies) for name in names}
    for name in plain:
        if name in table:
            table[name] |= {"seconds": quartiles(seconds[name]), "undefined": values[name].count(float("-inf"))}
    settings = {key: str(value) for key, value in vars(arguments).items()}
    columns = {name: [float(rows[index][name]) for index in drawn] for name in COLUMNS}
    beside = {
        name: {column: correlation(found, accuracy).to_json() for column, accuracy in columns.items()}
        for name, found in others.items()
    }
    whole = {"cells": len(rows), "tau_of_convolutions": tau_of_convolutions(rows, arguments.accuracy)}
    told = {"settings": settings, "cells": len(drawn), "scores": table, "naswot_settings": beside, "whole_table": whole}
    print(json.dumps(told, indent=2))


def tau_of_convolutions(rows: Sequence[dict[str, str]], accuracy: str) -> float:
    """Kendall's tau between the size of a cell's kernels and its accuracy."""
    sizes = [9 * row["cellstr"].count("nor_conv_3x3") + row["cellstr"].count("nor_conv_1x1") for row in rows]
    return float(kendalltau(sizes, [float(row[accuracy]) for row in rows]).statistic)


def settings_of(graph: Graph, pictures: np.ndarray, seed: int) -> dict[str, float]:
    """NASWOT of a network with each size of minibatch and each kind of initial weights; and its parameters."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    weights = {"ours": graph.drawn(key), "pytorch": as_pytorch(graph, graph.drawn(key), seed)}
    found = {
        f"batch {batch}, {name} weights": naswot(graph, variables, pictures[:batch], np.zeros(batch, int), key)
        for batch in BATCHES
        for name, variables in weights.items()
    }
    return {**found, "params": float(graph.params)}


def as_pytorch(graph: Graph, variables: Variables, seed: int) -> Variables:
    """The variables with kernels drawn as PyTorch's layers draw them (He et al., 2015, uniform with a = √5)."""
    rng = np.random.default_rng(seed)

    def kernel(array: np.ndarray) -> np.ndarray:
        bound = float(np.prod(array.shape[:-1])) ** -0.5
        return rng.uniform(-bound, bound, array.shape).astype(np.float32)

    params = {
        node: {name: kernel(np.asarray(array)) if array.ndim > 1 else array for name, array in weights.items()}
        for node, weights in variables["params"].items()
    }
    return {"params": params, "state": variables["state"]}


def minibatch(path: Path, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalised training pictures of an .npz file, and their labels."""
    with np.load(path) as arrays:
        pictures, labels = arrays["x_train"], arrays["y_train"]
    chosen = np.random.default_rng(seed).permutation(len(labels))[:size]
    shown = pictures[chosen].astype(np.float32) / 255.0
    return (shown - shown.mean((0, 1, 2))) / shown.std((0, 1, 2)), labels[chosen]


def report(columns: Sequence[Sequence[float]], accuracies: Sequence[float]) -> dict[str, Any]:
    """Rank correlations of a score, or of the combined ranks of several, with accuracies."""
    score = list(columns[0]) if len(columns) == 1 else combined(np.array(columns).T).tolist()
    found = correlation(score, accuracies)
    best = np.argsort(accuracies)[-max(2, len(accuracies) // 10) :]
    among = correlation([score[index] for index in best], [accuracies[index] for index in best])
    return {**found.to_json(), "tau_in_best_tenth": among.tau}


def quartiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return {"median": round(float(middle), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


if __name__ == "__main__":
    main()
