"""Fisher potential: how much a fresh network's loss would change if channels were removed (Turner et al., ICLR 2020).

A filter that rejects what lost capacity; it does not rank what is good, so it is no score to maximise.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]

from alphanas.scoring.compiled import every_training_value
from alphanas.scoring.taps import taps
from synth import Graph, ModalOp, Op
from synth.graph import Variables, weights_of


def fisher(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray, key: jax.Array) -> float:
    """The sum over the inputs A of all activations, and over their channels c, of mean_n (Σ_positions A[n,c] · ∂L/∂A[n,c])² / 2.

    L is the sum of the cross-entropies of the minibatch, so that the value does not fall with its size.
    """
    values = every_training_value(graph, variables, key, pictures)
    (output,) = graph.outputs
    wanted = jax.nn.one_hot(labels, values[output].shape[-1])
    slopes = {output: _loss_slope(values[output], wanted)}
    for index, node in reversed(list(enumerate(graph.nodes))):
        if node.name not in slopes:
            continue
        arguments = tuple(values[name] for name in node.inputs)
        below = _pull_back(node.op, weights_of(variables, node), jax.random.fold_in(key, index), arguments, slopes[node.name])
        for name, slope in zip(node.inputs, below, strict=True):
            slopes[name] = slopes[name] + slope if name in slopes else slope
    return float(sum(_potential(values[name], slopes[name]) for name in taps(graph) if name in slopes))


@jax.jit
def _loss_slope(logits: jax.Array, wanted: jax.Array) -> jax.Array:
    return jax.grad(lambda logits: optax.softmax_cross_entropy(logits, wanted).sum())(logits)


@functools.partial(jax.jit, static_argnames="op")
def _pull_back(
    op: Op, weights: Mapping[str, jax.Array], key: jax.Array, arguments: tuple[jax.Array, ...], slope: jax.Array
) -> tuple[jax.Array, ...]:
    """The slope of the loss at an op's inputs, from the slope at its output."""

    def run(*inputs: jax.Array) -> jax.Array:
        return op.train(weights, *inputs, key=key)[0] if isinstance(op, ModalOp) else op.apply(weights, *inputs)

    return tuple(jax.vjp(run, *arguments)[1](slope))


@jax.jit
def _potential(values: jax.Array, slopes: jax.Array) -> jax.Array:
    along = (values * slopes).reshape(values.shape[0], -1, values.shape[-1]).sum(1)
    return 0.5 * jnp.square(along).mean(0).sum()
