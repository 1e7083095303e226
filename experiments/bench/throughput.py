"""How many candidates a second pass the cheap stages: `python -m experiments.bench.search throughput` prints JSON.

Candidates are children of a ResNet-18 of width 16 and of one another: a region's properties are read and mutated, a piece is
synthesized, the whole is checked against what was proposed before, its cost is read and its NASWOT score computed on a minibatch,
op by op with compiled ops shared by all candidates. The first ones warm these up and are not counted. Beside it, for some of the
same candidates in turns, the naive way: the whole network compiled for each, everything else alike. One process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from alphanas.models import zoo
from alphanas.scoring import proxies
from alphanas.scoring.compiled import share_compilations
from alphanas.scoring.cost import cost
from alphanas.scoring.naswot import log_determinant
from alphanas.scoring.taps import taps
from alphanas.search.archive import Archive, Member, Proposed
from alphanas.search.change import changed
from alphanas.search.regions import Options
from synth import Graph

MODEL = "resnet18_cifar"


def main(arguments: Sequence[str] | None = None) -> None:
    """Times the candidates and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="a name of the zoo")
    parser.add_argument("--width", type=int, default=16, help="channels of its first stage")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--warm", type=int, default=40, help="candidates before the clock starts")
    parser.add_argument("--count", type=int, default=40, help="candidates that are timed")
    parser.add_argument("--naive", type=int, default=4, help="of these, how many also go the naive way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compilations", type=Path, help="a folder of compiled ops, shared between runs")
    told = parser.parse_args(arguments)
    if told.compilations:
        share_compilations(str(told.compilations))
    print(json.dumps(measure(told), indent=2))


def measure(told: argparse.Namespace) -> dict[str, object]:
    """Seconds of each stage for each candidate, and the candidates a second."""
    rng = np.random.default_rng(told.seed)
    graph = zoo.build(f"{told.model}:{told.width}", input_shape=(32, 32, 3), num_classes=10)
    pictures, labels = rng.standard_normal((told.batch, 32, 32, 3), np.float32), rng.integers(0, 10, told.batch)
    archive = Archive(("params",), (Member(0, graph, (float(graph.params),)),))
    rows: list[dict[str, float]] = []
    naive: list[float] = []
    ours: list[float] = []
    failed = made = 0
    while made < told.warm + told.count:
        began = time.perf_counter()
        parent = archive.members[int(rng.integers(len(archive.members)))]
        proposal = changed(archive, rng, Options(branches=0.0), parent, {"region": 1.0})
        proposed = time.perf_counter()
        if proposal.graph is None:
            failed += made >= told.warm
            rows += [{"proposal": proposed - began, "cost": 0.0, "naswot": 0.0}] if made >= told.warm else []
            continue
        child = proposal.graph
        cost(child)
        costed = time.perf_counter()
        proxies.score(child, pictures, labels, kind="naswot", seed=told.seed)
        scored = time.perf_counter()
        made += 1
        member = Member(made, child, (float(child.params),), parent.id)
        archive = Archive(archive.objectives, (*archive.members, member), (*archive.proposed, Proposed(made, child)))
        if made <= told.warm:
            continue
        rows.append({"proposal": proposed - began, "cost": costed - proposed, "naswot": scored - costed})
        if len(naive) < told.naive and (made - told.warm) % max(1, told.count // told.naive) == 0:
            started = time.perf_counter()
            whole(child, pictures, told.seed)
            naive.append(costed - began + time.perf_counter() - started)
            ours.append(scored - began)
    total = sum(sum(row.values()) for row in rows)
    each = total / told.count
    return {
        "model": f"{told.model}, width {told.width}",
        "batch": told.batch,
        "candidates": told.count,
        "proposals_without_a_program": failed,
        "candidates_a_second": round(told.count / total, 2),
        "seconds": {name: quartiles([row[name] for row in rows]) for name in rows[0]},
        "naive": {
            "candidates": len(naive),
            "seconds": quartiles(naive),
            "of_the_same_ours": quartiles(ours),
            "times_slower": round(float(np.median(naive)) / each, 1),
        },
    }


def whole(graph: Graph, pictures: np.ndarray, seed: int) -> float:
    """The naive score: the whole network in training mode as one compiled function of its own."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    variables = graph.init(key)
    tapped = Graph(graph.inputs, graph.nodes, taps(graph))
    values, _ = jax.jit(lambda variables, pictures: tapped.apply(variables, pictures, train=True, rng=key))(variables, pictures)
    return log_determinant(values if isinstance(values, tuple) else (values,))


def quartiles(seconds: Sequence[float]) -> dict[str, float]:
    """Mean, median and quartiles: what the rate hangs on is the mean, with its slow ones."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    figures = {"mean": np.mean(seconds), "median": middle, "low": low, "high": high, "highest": np.max(seconds)}
    return {name: round(float(figure), 4) for name, figure in figures.items()}


if __name__ == "__main__":
    main()
