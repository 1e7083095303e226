"""Pictures a second of whole training steps, in the formulations that were measured and in those of the fixed rule, as JSON.

    python -m experiments.bench.training_steps zoo:resnet18_cifar:16 zoo:mobilenet_nano --batch 128

A step is what `alphanas.scoring.training` compiles: forward, backward, optimizer. The two run in turns in one worker, so that both
see the same minute of the machine. `seconds_to_compile` is a step's, without the measuring of formulations, which is once a shape.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from alphanas.execution import Completed, LocalPool, Note
from alphanas.models.resolve import resolve
from alphanas.scoring import kernels, training
from alphanas.scoring.distillation import Distillation
from alphanas.scoring.recipe import Recipe
from synth import Graph
from synth.ops.formulations import Plan

CLASSES = 10


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    with LocalPool(1, threads=options.threads, on_note=_show) as pool:
        result = pool.submit("experiments.bench.training_steps:rows", vars(options)).result()
    if not isinstance(result, Completed):
        print(json.dumps({"command": sys.argv[1:], "failure": result.cause, "message": result.message}, indent=2))
        return 1
    facts = {"command": sys.argv[1:], "jax": jax.__version__, "threads": options.threads, "batch": options.batch}
    print(json.dumps(facts | {"models": result.value}, indent=2))
    return 0


def _show(note: Note) -> None:
    if note.text:
        print(note.text, file=sys.stderr, flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pictures a second of whole training steps.")
    parser.add_argument("models", nargs="+", help="such as zoo:resnet18_cifar:16")
    parser.add_argument("--input", type=int, nargs=3, default=(32, 32, 3))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    return parser.parse_args(arguments)


def rows(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """A task: one row for each model."""
    options = argparse.Namespace(**payload)
    return [_row(name, options) for name in options.models]


def _row(name: str, options: argparse.Namespace) -> dict[str, Any]:
    graph, _ = resolve(name, tuple(options.input), num_classes=CLASSES)
    plans = {"measured": kernels.plans(graph, options.batch), "fixed": {}}
    compiled = {which: _step(graph, plan, options) for which, plan in plans.items()}
    seconds: dict[str, list[float]] = {which: [] for which in plans}
    for _ in range(options.steps):
        for which, (_, run) in compiled.items():
            seconds[which].append(_timed(run))
    rates = {which: options.batch / statistics.median(times) for which, times in seconds.items()}
    return {
        "model": name,
        "pictures_a_second": rates,
        "times_faster": rates["measured"] / rates["fixed"],
        "seconds_to_compile": {which: taken for which, (taken, _) in compiled.items()},
        "formulations": {key: kernels.named(plan) for key, plan in plans["measured"].items()},
    }


def _step(graph: Graph, plans: Mapping[str, Plan], options: argparse.Namespace) -> tuple[float, Callable[[], None]]:
    """(seconds to compile, a step that goes on from the one before)."""
    recipe, planned = Recipe(batch_size=options.batch), tuple(sorted(plans.items()))
    step = training.compiled_step(graph, options.batch, recipe.rule, 0.0, Distillation(), (), planned)
    rng = np.random.default_rng(0)
    pictures = rng.standard_normal((options.batch, *options.input)).astype(np.float32)
    labels = rng.integers(0, CLASSES, options.batch)
    carry = step.begin(graph.init(jax.random.key(0)))
    rest = (np.float32(0), np.float32(1e-3), np.zeros(2, np.uint32), pictures, labels, None)

    def run() -> None:
        nonlocal carry
        carry, loss = step.run(carry, *rest)
        jax.block_until_ready(loss)

    first = _timed(run)
    return first - _timed(run), run


def _timed(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
