"""Fisher potential against its formula, written out for one layer and by finite differences for two."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from properties.fisher import cross_entropy, fisher_potential

LABELS = jnp.array([0, 2, 1, 2])


def test_one_layer_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(4, 5)).astype(np.float32), [rng.normal(size=(5, 3)).astype(np.float32) for _ in range(3)]
    found = fisher_potential(lambda w, v: v @ w, weights, x, LABELS)
    totals = []
    for w in weights:
        logits = x.astype(np.float64) @ w
        gradient = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[LABELS]
        totals.append(((logits * gradient) ** 2).sum() / (2 * 4))
    assert found.mean == pytest.approx(np.mean(totals), rel=1e-4)
    assert found.deviation == pytest.approx(np.std(totals), rel=1e-3)


def test_convolution_inside_a_call_by_finite_differences() -> None:
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(4, 5, 5, 2)))
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 3, 2, 3)))}

    def features(p: dict[str, jax.Array], v: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(v, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def head(a: jax.Array) -> jax.Array:
        return jnp.tanh(a).mean((1, 2))

    found = fisher_potential(jax.jit(lambda p, v: head(features(p, v))), [params], x, LABELS)
    step, total = 1e-3, 0.0
    activations = features(params, x)
    for n in range(4):
        for channel in range(3):
            # scaling a channel of one sample by 1 ± ε changes the loss by ε · Σ A·g
            mask = jnp.zeros_like(activations).at[n, :, :, channel].set(1.0)
            up, down = (cross_entropy(head(activations * (1 + sign * step * mask)), LABELS) for sign in (1, -1))
            total += float((up - down) / (2 * step)) ** 2 / (2 * 4)
    assert found.mean == pytest.approx(total, rel=2e-2)
    assert len(found.contractions) == 1


def test_products_of_data_are_not_counted_and_nothing_given_is_an_error() -> None:
    x = jnp.ones((4, 3))
    found = fisher_potential(lambda w, v: (v @ v.T) @ (v @ w), [jnp.ones((3, 3))], x, LABELS)
    assert len(found.contractions) == 1
    with pytest.raises(ValueError, match="no initializations"):
        fisher_potential(lambda w, v: v @ w, [], x, LABELS)
