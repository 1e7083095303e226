"""Fisher potential: how much a loss would change if channels were deleted, summed over a network (Turner et al., 2021).

For a channel c of one contraction's output A over N samples, Δ_c = 1/(2N) Σ_n (Σ_positions A·g)², where g is the gradient of the
summed loss in A; the potential is the sum over channels and contractions. Because the loss is summed, it does not shrink with the
batch. It depends on the initialization, so it is averaged over several. Compare values of equal data, labels and numbers of
initializations only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from properties.jaxpr import Tap, trace, with_taps


@dataclass(frozen=True, slots=True)
class FisherPotential:
    """Mean over initializations, its standard deviation, and the mean by contraction in order of execution."""

    mean: float
    deviation: float
    contractions: tuple[float, ...]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy with integer labels, summed over the batch."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).sum()


def fisher_potential(
    function: Callable[[Any, jax.Array], jax.Array],
    initializations: Sequence[Any],
    x: jax.Array,
    labels: jax.Array,
    *,
    loss: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy,
) -> FisherPotential:
    """The potential of `function(params, x)` on a batch, averaged over trees of parameters of equal shapes.

    Every convolution and matrix product that reads a parameter is counted, wherever it stands outside of loops.
    """
    if not initializations:
        raise ValueError("no initializations given: pass one tree of parameters or more")
    closed, _ = trace(function, initializations[0], x)
    run, taps = with_taps(closed, params=len(jax.tree.leaves(initializations[0])))
    zeros = [jnp.zeros(tap.shape, tap.dtype) for tap in taps]

    @jax.jit
    def deltas(params: Any) -> list[jax.Array]:
        def total(added: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
            outputs, activations = run(added, *jax.tree.leaves((params, x)))
            return loss(outputs[0], labels), activations

        gradients, activations = jax.grad(total, has_aux=True)(zeros)
        return [_delta(a * g, tap) for a, g, tap in zip(activations, gradients, taps, strict=True)]

    values = np.array([[float(delta) for delta in deltas(params)] for params in initializations])
    totals = values.sum(axis=1)
    return FisherPotential(float(totals.mean()), float(totals.std()), tuple(map(float, values.mean(axis=0))))


def _delta(products: jax.Array, tap: Tap) -> jax.Array:
    positions = tuple(axis for axis in range(products.ndim) if axis not in (tap.batch, tap.channel))
    return jnp.square(products.sum(positions)).sum() / (2 * products.shape[tap.batch])
