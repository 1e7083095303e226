"""Slopes of a network op by op, from its outputs back to its inputs and weights: each op's pull-back is compiled once and kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]

from alphanas.scoring.compiled import Arrays, every_training_value, every_value, quickly
from synth import Graph, ModalOp, Op
from synth.graph import Variables, weights_of


@dataclass(frozen=True, eq=False)
class Slopes:
    """The values of a network by name, and the slope of one number in each of them and in each trained weight, by node.

    What the number does not depend on has no slope here.
    """

    values: Mapping[str, jax.Array]
    of_values: Mapping[str, jax.Array]
    of_weights: Mapping[str, Mapping[str, jax.Array]]


def loss_slopes(graph: Graph, variables: Variables, pictures: Arrays, labels: Arrays, key: jax.Array, *, weights: bool) -> Slopes:
    """Slopes of the sum of the cross-entropies of a minibatch in training mode; those of weights only if asked for."""
    values = every_training_value(graph, variables, key, pictures)
    (output,) = graph.outputs
    start = _loss_slope(values[output], jax.nn.one_hot(labels, values[output].shape[-1]))
    return _pulled_back(graph, variables, values, {output: start}, key, weights=weights)


def output_slopes(graph: Graph, variables: Variables, inputs: Arrays, key: jax.Array, *, train: bool, weights: bool) -> Slopes:
    """Slopes of the sum of all outputs, in training mode or in inference."""
    values = every_training_value(graph, variables, key, inputs) if train else every_value(graph, variables, inputs)
    start = {name: jnp.ones_like(values[name]) for name in graph.outputs}
    return _pulled_back(graph, variables, values, start, key if train else None, weights=weights)


def _pulled_back(
    graph: Graph,
    variables: Variables,
    values: Mapping[str, jax.Array],
    start: Mapping[str, jax.Array],
    key: jax.Array | None,
    *,
    weights: bool,
) -> Slopes:
    """`key` is None in inference."""
    slopes, of_weights = dict(start), {}
    for index, node in reversed(list(enumerate(graph.nodes))):
        if node.name not in slopes:
            continue
        arguments, own = tuple(values[name] for name in node.inputs), weights_of(variables, node)
        chance = jax.random.fold_in(key, index) if key is not None and isinstance(node.op, ModalOp) else None
        trained = set(variables["params"].get(node.name, {})) if weights else set()
        inner, below = _pull_back(node.op, own, chance, arguments, slopes[node.name], bool(trained))
        of_weights[node.name] = {name: inner[name] for name in trained}
        for name, slope in zip(node.inputs, below, strict=True):
            slopes[name] = slopes[name] + slope if name in slopes else slope
    return Slopes(values, slopes, of_weights)


@quickly
def _loss_slope(logits: jax.Array, wanted: jax.Array) -> jax.Array:
    return jax.grad(lambda logits: optax.softmax_cross_entropy(logits, wanted).sum())(logits)


@functools.partial(quickly, static_argnames=("op", "weighted"))
def _pull_back(
    op: Op,
    weights: Mapping[str, jax.Array],
    key: jax.Array | None,
    arguments: tuple[jax.Array, ...],
    slope: jax.Array,
    weighted: bool,
) -> tuple[Mapping[str, jax.Array], tuple[jax.Array, ...]]:
    """(the slopes in an op's weights if `weighted`, those in its inputs), from the slope in its output."""

    def run(weights: Mapping[str, Any], inputs: tuple[jax.Array, ...]) -> jax.Array:
        if isinstance(op, ModalOp) and key is not None:
            return op.train(weights, *inputs, key=key)[0]
        return op.apply(weights, *inputs)

    if weighted:
        inner, below = jax.vjp(run, weights, arguments)[1](slope)
        return inner, below
    (below,) = jax.vjp(lambda inputs: run(weights, inputs), arguments)[1](slope)
    return {}, below
