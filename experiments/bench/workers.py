"""How well the training stage uses several workers: `python -m experiments.bench.search workers` prints JSON.

The same short trainings, of networks that differ (so that each is compiled, as in a search), on one worker of one thread and on as
many as there are cores, in turns, with new processes each time. Efficiency is the time on one worker over that on all, for each
worker.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

from alphanas.config import Config
from alphanas.execution import Completed, LocalPool
from alphanas.models import zoo
from alphanas.study.environment import cores

TRAIN = "alphanas.scoring.tasks:train"


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--trainings", type=int, default=8, help="networks, each trained once")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    told = parser.parse_args(arguments)
    trainings = payloads(told.trainings, told.epochs)
    rows: dict[int, list[float]] = {1: [], told.workers: []}
    for _ in range(told.rounds):
        for workers, seconds in rows.items():
            seconds.append(elapsed(trainings, workers))
    ratios = [alone / (told.workers * together) for alone, together in zip(rows[1], rows[told.workers], strict=True)]
    print(
        json.dumps({"settings": vars(told), "seconds": rows, "efficiency": ratios, "median": statistics.median(ratios)}, indent=2)
    )


def payloads(count: int, epochs: int) -> list[dict[str, Any]]:
    """Short trainings on digits of networks of as many widths."""
    sections = Config().to_mapping()
    recipe = {**sections["training"], "epochs": epochs, "kernels": "fixed"}
    graphs = [zoo.build(f"resnet18_cifar:{4 + 2 * number}", input_shape=(8, 8, 1), num_classes=10) for number in range(count)]
    return [{"graph": graph.to_json(), "data": sections["data"], "recipe": recipe, "seeds": [0]} for graph in reversed(graphs)]


def elapsed(trainings: Sequence[dict[str, Any]], workers: int) -> float:
    """Seconds until the last one has ended, from when every worker has its data."""
    with LocalPool(workers, threads=1) as pool:
        first = [pool.submit(TRAIN, {**trainings[-1], "recipe": {**trainings[-1]["recipe"], "epochs": 0}}) for _ in range(workers)]
        for one in first:
            one.result()
        began = time.monotonic()
        for handle in [pool.submit(TRAIN, payload) for payload in trainings]:
            found = handle.result()
            if not isinstance(found, Completed):
                raise RuntimeError(f"a training failed: {found}")
        return time.monotonic() - began


if __name__ == "__main__":
    main()
