"""The layers of Flax and the functions of JAX that models use are understood: nothing in them is taken as unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import properties

IMAGE = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
TOKENS = jax.ShapeDtypeStruct((2, 6, 8), jnp.float32)
CAUSAL = nn.make_causal_mask(jnp.ones((2, 6)))

LINEN: list[tuple[nn.Module, Any, dict[str, Any]]] = [
    (nn.Conv(4, (3, 3)), IMAGE, {}),
    (nn.ConvTranspose(4, (3, 3), (2, 2)), IMAGE, {}),
    (nn.ConvLocal(4, (3, 3)), IMAGE, {}),
    (nn.Dense(3), IMAGE, {}),
    (nn.DenseGeneral((2, 3)), IMAGE, {}),
    (nn.Einsum((8, 3), "btc,cd->btd"), TOKENS, {}),
    (nn.BatchNorm(use_running_average=True), IMAGE, {}),
    (nn.LayerNorm(), TOKENS, {}),
    (nn.RMSNorm(), TOKENS, {}),
    (nn.GroupNorm(2), IMAGE, {}),
    (nn.InstanceNorm(), IMAGE, {}),
    (nn.WeightNorm(nn.Dense(3)), TOKENS, {}),
    (nn.SpectralNorm(nn.Dense(3)), TOKENS, {"update_stats": False}),
    (nn.MultiHeadDotProductAttention(2), TOKENS, {}),
    (nn.MultiHeadDotProductAttention(2), TOKENS, {"mask": CAUSAL}),
    (nn.Dropout(0.5, deterministic=False), IMAGE, {}),
    (nn.RNN(nn.LSTMCell(5)), TOKENS, {}),
    (nn.RNN(nn.OptimizedLSTMCell(5)), TOKENS, {}),
    (nn.RNN(nn.GRUCell(5)), TOKENS, {}),
    (nn.Embed(10, 4), jax.ShapeDtypeStruct((2, 3), jnp.int32), {}),
    (nn.PReLU(), IMAGE, {}),
]


@pytest.mark.parametrize(("layer", "x", "options"), LINEN, ids=lambda each: type(each).__name__)
def test_linen_layers(layer: nn.Module, x: Any, options: dict[str, Any]) -> None:
    key = jax.random.key(0)
    variables = jax.eval_shape(lambda v: layer.init({"params": key, "dropout": key}, v, **options), x)
    inference = properties.infer(lambda p, v: layer.apply(p, v, rngs={"dropout": key}, **options), x, params=variables)
    assert inference.unknown == ()
    assert (
        inference.shape[0].shape
        == jax.eval_shape(lambda p, v: layer.apply(p, v, rngs={"dropout": key}, **options), variables, x).shape
    )
    assert inference.capacity.bounded


NNX: list[tuple[Callable[[nnx.Rngs], Any], Any]] = [
    (lambda rngs: nnx.Conv(4, 3, (3, 3), rngs=rngs), IMAGE),
    (lambda rngs: nnx.ConvTranspose(4, 3, (3, 3), strides=2, rngs=rngs), IMAGE),
    (lambda rngs: nnx.Linear(4, 3, rngs=rngs), IMAGE),
    (lambda rngs: nnx.LinearGeneral(4, (2, 3), rngs=rngs), IMAGE),
    (lambda rngs: nnx.Einsum("btc,cd->btd", (8, 3), (3,), rngs=rngs), TOKENS),
    (lambda rngs: nnx.BatchNorm(4, use_running_average=True, rngs=rngs), IMAGE),
    (lambda rngs: nnx.LayerNorm(8, rngs=rngs), TOKENS),
    (lambda rngs: nnx.RMSNorm(8, rngs=rngs), TOKENS),
    (lambda rngs: nnx.GroupNorm(4, num_groups=2, rngs=rngs), IMAGE),
    (lambda rngs: nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs), TOKENS),
    (lambda rngs: nnx.InstanceNorm(4, rngs=rngs), IMAGE),
    (lambda rngs: nnx.Embed(10, 4, rngs=rngs), jax.ShapeDtypeStruct((2, 3), jnp.int32)),
    (lambda rngs: nnx.Dropout(0.5, deterministic=False, rngs=rngs), IMAGE),
    (lambda rngs: nnx.RNN(nnx.GRUCell(8, 5, rngs=rngs), rngs=rngs), TOKENS),
    (lambda rngs: nnx.RNN(nnx.OptimizedLSTMCell(8, 5, rngs=rngs), rngs=rngs), TOKENS),
]


@pytest.mark.parametrize("make", NNX)
def test_nnx_layers(make: tuple[Callable[[nnx.Rngs], Any], Any]) -> None:
    build, x = make
    graph, state = nnx.split(build(nnx.Rngs(0)))
    inference = properties.infer(lambda s, v: nnx.merge(graph, s, copy=True)(v), x, params=state)
    assert inference.unknown == ()


def test_norms_of_flax_are_one_step() -> None:
    for layer, x, expected in [(nn.LayerNorm(), TOKENS, 1), (nn.RMSNorm(), TOKENS, 0), (nn.GroupNorm(2), IMAGE, 1)]:
        variables = jax.eval_shape(layer.init, jax.random.key(0), x)
        assert properties.infer(layer.apply, x, params=variables).depth[0, 0] == expected  # one more for a bias
    attention = nn.MultiHeadDotProductAttention(2)
    variables = jax.eval_shape(attention.init, jax.random.key(0), TOKENS)
    assert properties.infer(attention.apply, TOKENS, params=variables).depth[0, 0] == 3


FUNCTIONS: list[Callable[..., Any]] = [
    getattr(jax.nn, name)
    for name in (
        "relu", "relu6", "gelu", "silu", "sigmoid", "softmax", "log_softmax", "logsumexp", "leaky_relu", "elu", "celu", "selu",
        "hard_swish", "hard_sigmoid", "hard_tanh", "softplus", "soft_sign", "log_sigmoid", "mish", "glu", "squareplus",
        "sparse_plus", "sparse_sigmoid", "standardize", "identity",
    )
] + [
    jnp.sort, jnp.argsort, jnp.median, jnp.cumsum, jnp.cumprod, jnp.diff, jnp.nan_to_num, jnp.fft.rfft, jnp.fft.fft2,
    lambda x: nn.max_pool(x, (2, 2), (2, 2)),
    lambda x: nn.avg_pool(x, (3, 3), padding="SAME"),
    lambda x: nn.pooling.min_pool(x, (2, 2)),
    lambda x: jnp.percentile(x, 30),
    lambda x: jnp.linalg.svd(x)[0],
    lambda x: jnp.linalg.qr(x)[1],
    lambda x: jnp.linalg.pinv(x),
    lambda x: jnp.linalg.eigh(x @ x.swapaxes(-1, -2))[0],
    lambda x: jnp.linalg.det(x[..., :4, :4]),
    lambda x: jax.image.resize(x, (2, 16, 16, 4), "bilinear"),
    lambda x: jax.lax.associative_scan(jnp.add, x),
    lambda x: jax.random.normal(jax.random.key(1), x.shape) * x,
    lambda x: jax.random.permutation(jax.random.key(0), x),
    lambda x: jax.random.categorical(jax.random.key(0), x),
    lambda x: jax.ops.segment_sum(x, jnp.array([0, 1]), 2),
    lambda x: jax.nn.one_hot(jnp.argmax(x, -1), 4),
    lambda x: jax.nn.dot_product_attention(x, x, x, is_causal=True),
    lambda x: x[jnp.argmax(x[:, 0, 0], -1) % 2],
    lambda x: jnp.histogram(x)[0],
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: getattr(each, "__name__", "lambda"))
def test_functions(function: Callable[..., Any]) -> None:
    assert properties.infer(function, IMAGE).unknown == ()


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "softmax", "log_softmax", "elu", "softplus", "mish", "selu"])
def test_activations_are_one_step(name: str) -> None:
    assert properties.infer(getattr(jax.nn, name), IMAGE).depth[0, 0] == 0
    half = jax.ShapeDtypeStruct(IMAGE.shape, jnp.bfloat16)
    assert properties.infer(getattr(jax.nn, name), half).depth[0, 0] == 0
