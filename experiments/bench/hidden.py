"""Targets with known answers: made from a hidden program, made to be impossible, or answered by brute force."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from properties import Inference, RankRequirement, ShapeRequirement
from synth import OPS, Budget, Graph, Interval, Op, Problem, Target, Value, chain, infer, macs, vocabulary
from synth.op import ShapeMismatch, alternatives, output_value
from synth.ops import AvgPool, BatchNorm, Conv, Dense, DepthwiseConv, LayerNorm, Relu, Scale

FAMILIES: dict[str, Value] = {
    "convolutional": Value((None, 8, 8, 16)),
    "token": Value((None, 16, 32)),
    "vector": Value((None, 32)),
}
SIZES = (16, 32)
SMALL = vocabulary(DepthwiseConv, Relu, LayerNorm, AvgPool, Scale)
IMAGE = Value((None, 6, 6, 4))


def hidden_targets(rng: np.random.Generator, count: int) -> Iterator[tuple[str, Problem]]:
    """(family, problem) whose target is what a random program has; every other one must keep that program's costs, too."""
    made = 0
    while made < count:
        family = list(FAMILIES)[made % len(FAMILIES)]
        hidden = chain(FAMILIES[family], _drawn(rng, FAMILIES[family], int(rng.integers(1, 6))))
        if len(hidden.values[hidden.outputs[0]].shape) < 2:
            continue
        budget = Budget(Interval(0, max(1, hidden.params)), Interval(0, max(1, macs(hidden)))) if rng.random() < 0.5 else Budget()
        yield family, Problem.of(hidden, Target.of(hidden, budget), longer=0)
        made += 1


def _drawn(rng: np.random.Generator, value: Value, length: int) -> list[Op]:
    """Random ops of the whole vocabulary, each type as likely as any other."""
    path: list[Op] = []
    types = [op_type for op_type in OPS.values() if op_type.arity == 1 and op_type.taste > 0]
    while len(path) < length:
        choices = list(alternatives(types[rng.integers(len(types))], SIZES))
        op = choices[rng.integers(len(choices))]
        try:
            value = output_value(op, (value,))
        except ShapeMismatch:
            continue
        path.append(op)
    return path


def impossible_targets(rng: np.random.Generator, count: int) -> Iterator[tuple[str, Problem]]:
    """(what makes it so, problem) of targets that no program meets."""
    same, plain = (None, 8, 8, 16), vocabulary(Conv, DepthwiseConv, BatchNorm, Relu)
    image = FAMILIES["convolutional"]
    for index in range(count):
        length, some = int(rng.integers(1, 5)), int(rng.integers(1, 40))
        kinds: dict[str, Problem] = {
            "a larger picture": Problem(image, Target.asking((None, 8 + some, 8, 16)), length, SIZES),
            "a width that no op makes": Problem(image, Target.asking((None, 8, 8, 32 + some)), length, SIZES),
            "deeper than the length allows": Problem(
                image, Target.asking(same, depth=2 * length + some), length, SIZES, vocabulary=plain
            ),
            "a wider view than the length allows": Problem(
                image, Target.asking(same, receptive_field=8), min(length, 1), SIZES, vocabulary=plain
            ),
            "more rank than there is": Problem(
                image, Target((ShapeRequirement(same), RankRequirement(2048 + some))), length, SIZES
            ),
            "a vocabulary that keeps the shape": Problem(
                image, Target.asking((None, 4, 4, 16)), length, SIZES, vocabulary=vocabulary(BatchNorm, Relu, LayerNorm)
            ),
            "too few parameters for the width": Problem(
                image, Target.asking((None, 8, 8, 32), params=Interval(0, some % 16 + 1)), length, SIZES, widths=(8, 16, 32)
            ),
            "too few multiply-adds for the width": Problem(
                FAMILIES["vector"], Target.asking((None, 16), macs=Interval(0, some % 8 + 1)), length, SIZES,
                vocabulary=vocabulary(Dense, Relu, LayerNorm),
            ),
            "two shapes": Problem(image, Target((ShapeRequirement(same), ShapeRequirement((None, 4, 4, 16)))), length, SIZES),
        }  # fmt: skip
        kind = list(kinds)[index % len(kinds)]
        yield kind, kinds[kind]


@dataclass(frozen=True)
class Known:
    """One program of the brute force's list."""

    graph: Graph
    inference: Inference
    params: int


def everything(value: Value, length: int) -> list[Known]:
    """Every program of the small vocabulary of at most `length` ops, cheapest first, by an enumeration of its own."""
    ops = [op for op_type in SMALL.values() for op in alternatives(op_type, ())]
    layer: list[tuple[tuple[Op, ...], Value]] = [((), value)]
    paths = list(layer)
    for _ in range(length):
        layer = [((*path, op), after) for path, here in layer for op in ops if (after := _after(op, here)) is not None]
        paths += layer
    found = [Known(graph, infer(graph), graph.params) for graph in (chain(value, path) for path, _ in paths)]
    return sorted(found, key=lambda known: known.params)


def _after(op: Op, value: Value) -> Value | None:
    try:
        return output_value(op, (value,))
    except ShapeMismatch:
        return None


def small_targets(rng: np.random.Generator, count: int, length: int = 4) -> Iterator[tuple[Problem, int]]:
    """(problem, least parameters) of targets that random programs of the small vocabulary have, by going through all programs."""
    known = everything(IMAGE, length)
    for _ in range(count):
        target = Target.of(known[int(rng.integers(len(known)))].graph)
        least = next(each.params for each in known if target.distance_of(each.inference, 0, 0) == 0)
        yield Problem(IMAGE, target, length, (), vocabulary=SMALL), least
