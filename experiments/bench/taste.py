"""Good taste: of blocks drawn by exact synthesis, with the prior and without it, how many train. Prints JSON.

    python -m experiments.bench.taste [--seed N] [--blocks 40] [--epochs 10] [--workers 2] [--region]

The properties of every stage of the seed model of `experiments/digits.toml` are mutated into a target, as the search does; targets
that exact synthesis proves impossible are drawn again. For every target one block is drawn by the prior and one uniformly, all
stages are replaced at once, so that no shortcut of the seed's is left to carry what a block loses, and the network is trained from
scratch, by the seed's recipe and for as many epochs; accuracies are on the validation part. Blocks train if their network reaches
90% of the seed's accuracy. With `--region` each network has one region replaced that is drawn as the search draws it: the rest of
the seed then makes up for nearly any block, with the prior and without it, so that this tells the two apart no more.

The prior was developed on seeds below 100; report others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alphanas import data, zoo
from alphanas.config import Config, load_config
from alphanas.execution import Completed, LocalPool
from alphanas.search.moves import Options, mutated_problem, region_problem
from alphanas.search.strategies import options_of
from synth import Found, Graph, Infeasible, Problem, Region, splice, synthesize

CONFIG = Path("experiments/digits.toml")
ENOUGH = 0.9
SHARES = (0.5, 0.9, 0.95, 0.98, 0.99)
ARMS = {"prior": True, "uniform": False}


@dataclass(frozen=True)
class Block:
    """The network with a drawn block in the place of each region, and what was asked of them."""

    arm: str
    target: int
    asked: tuple[tuple[Region, Problem], ...]
    blocks: tuple[Graph, ...]
    network: Graph


def main() -> None:
    """Draws, trains, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--region", action="store_true", help="replace one drawn region in place of every stage")
    parser.add_argument("--arms", default=",".join(ARMS))
    arguments = parser.parse_args()
    began = time.monotonic()
    config = load_config(CONFIG)
    pictures = data.load(config.data)
    seed = zoo.build(config.model.removeprefix("zoo:"), input_shape=(1, *pictures.input_shape), num_classes=pictures.num_classes)
    arms = arguments.arms.split(",")
    blocks, counts = draw(seed, config, arguments.seed, arguments.blocks, not arguments.region)
    blocks = [block for block in blocks if block.arm in arms]
    accuracies = trained([seed, *(block.network for block in blocks)], config, arguments.epochs, arguments.workers)
    bar = accuracies[0]
    assert bar is not None, "the seed model trains"
    rows = [row(block, accuracy, bar) for block, accuracy in zip(blocks, accuracies[1:], strict=True)]
    table = {
        "model": config.model,
        "replaced": "one region" if arguments.region else "every stage",
        "epochs": arguments.epochs,
        "evaluated_on": f"validation part, {len(pictures.y_valid)} pictures",
        "seed": arguments.seed,
        "developed_on": "seeds below 100",
        "targets": counts,
        "seed_accuracy": bar,
        "wanted_accuracy": ENOUGH * bar,
        "arms": {arm: summary([each for each in rows if each["arm"] == arm], bar) for arm in arms},
        "seconds": round(time.monotonic() - began, 1),
        "seconds_a_network": round((time.monotonic() - began) / (1 + len(blocks)), 2),
        "blocks": rows,
    }
    print(json.dumps(table, indent=1))


def draw(seed: Graph, config: Config, number: int, wanted: int, stages: bool) -> tuple[list[Block], dict[str, int]]:
    """For each of `wanted` targets one block of each arm; and how many targets were drawn, impossible, or given up."""
    options = options_of(config)
    counts = {"drawn": 0, "infeasible": 0, "gave_up": 0}
    blocks: list[Block] = []
    while len(blocks) < wanted * len(ARMS):
        rng = np.random.default_rng([number, counts["drawn"]])
        asked = tuple(targets(seed, rng, options, stages))
        counts["drawn"] += 1
        made = [drawn(asked, prior, [number, counts["drawn"], index]) for index, prior in enumerate(ARMS.values())]
        causes = [each for each in made if isinstance(each, str)]
        if causes:
            counts[causes[0]] += 1
            continue
        for arm, found in zip(ARMS, made, strict=True):
            assert not isinstance(found, str)
            network = seed
            for (region, _), block in zip(asked, found, strict=True):
                network = splice(network, Region(network, region.names), block)
            blocks.append(Block(arm, counts["drawn"] - 1, asked, found, network))
    return blocks, counts


def targets(seed: Graph, rng: np.random.Generator, options: Options, stages: bool) -> Iterator[tuple[Region, Problem]]:
    """The regions to replace, each with its problem: one that is drawn, or every stage whole."""
    if not stages:
        found = region_problem(seed, rng, options)
        assert found is not None, "the seed has parameters"
        yield found[:2]
        return
    starts = sorted({name.split(".")[0] for name in seed.by_name if name.startswith("stage")})
    for stage in starts:
        region = Region(seed, frozenset(name for name in seed.by_name if name.startswith(stage)))
        problem, _ = mutated_problem(region, rng, options)
        yield region, problem


def drawn(asked: Sequence[tuple[Region, Problem]], prior: bool, key: Sequence[int]) -> tuple[Graph, ...] | str:
    """A random block for each target, by the prior or with every sequence as likely as any other; or why there is none."""
    rng, blocks = np.random.default_rng(key), []
    for _, problem in asked:
        result = synthesize(replace(problem, prior=prior), rng=rng, time_limit=20.0)
        if not isinstance(result, Found):
            return "infeasible" if isinstance(result, Infeasible) else "gave_up"
        blocks.append(result.graph)
    return tuple(blocks)


def trained(graphs: Sequence[Graph], config: Config, epochs: int, workers: int) -> list[float | None]:
    """Accuracy of every network on the validation part; None for one that diverged."""
    recipe = {**config.to_mapping()["training"], "epochs": epochs}
    shared = {"data": config.to_mapping()["data"], "recipe": recipe, "seeds": [0]}
    payloads = [{"graph": graph.to_json(), **shared} for graph in graphs]
    accuracies: list[float | None] = [None] * len(graphs)
    with LocalPool(workers=workers, threads=1) as pool:
        for index, result in pool.map_unordered("alphanas.scoring.tasks:train", payloads):
            if isinstance(result, Completed):
                accuracies[index] = result.value["accuracy"][0]
    return accuracies


def row(block: Block, accuracy: float | None, bar: float) -> dict[str, Any]:
    """A network with its targets, its blocks and its accuracy."""
    return {
        "arm": block.arm,
        "target": block.target,
        "at": [str(region) for region, _ in block.asked],
        "replaced": [[str(node.op) for node in region.nodes] for region, _ in block.asked],
        "asked": [str(problem.target) for _, problem in block.asked],
        "blocks": [[str(node.op) for node in each.nodes] for each in block.blocks],
        "params": block.network.params,
        "accuracy": accuracy,
        "trains": accuracy is not None and accuracy >= ENOUGH * bar,
    }


def summary(rows: Sequence[Mapping[str, Any]], bar: float) -> dict[str, Any]:
    """How many of an arm's blocks train, and how accurate they are."""
    accuracies = [each["accuracy"] or 0.0 for each in rows]
    return {
        "networks": len(rows),
        "train": sum(each["trains"] for each in rows),
        "reach": {f"{share:.0%}": sum(one >= share * bar for one in accuracies) for share in SHARES},
        "diverged": sum(each["accuracy"] is None for each in rows),
        "median_accuracy": float(np.median(accuracies)),
        "lowest_accuracy": min(accuracies),
        "median_params": float(np.median([each["params"] for each in rows])),
    }


if __name__ == "__main__":
    main()
