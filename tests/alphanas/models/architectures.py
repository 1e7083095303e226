"""Models as users write them, in NNX and in Linen, each with what its lifted graph may keep opaque."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

PICTURE = (8, 8, 3)


class NnxMbConv(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.expand = nnx.Conv(8, 16, (1, 1), use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        self.depthwise = nnx.Conv(16, 16, (3, 3), feature_group_count=16, use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        self.squeeze = nnx.Conv(16, 4, (1, 1), rngs=rngs)
        self.excite = nnx.Conv(4, 16, (1, 1), rngs=rngs)
        self.project = nnx.Conv(16, 8, (1, 1), use_bias=False, rngs=rngs)
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.hard_swish(self.stem(x))
        y = nnx.swish(self.norm1(self.expand(x)))
        y = nnx.swish(self.norm2(self.depthwise(y)))
        gate = self.excite(nnx.relu(self.squeeze(jnp.mean(y, axis=(1, 2), keepdims=True))))
        x = x + self.project(y * nnx.sigmoid(gate))
        return self.head(x.mean((1, 2)))


class LinenMbConv(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.hard_swish(linen.Conv(8, (3, 3), strides=2, use_bias=False)(x))
        y = linen.Conv(16, (1, 1), use_bias=False)(x)
        y = linen.swish(linen.BatchNorm(momentum=0.9)(y, use_running_average=not train))
        y = linen.Conv(16, (3, 3), feature_group_count=16, use_bias=False)(y)
        y = linen.swish(linen.BatchNorm(use_running_average=not train, momentum=0.9)(y))
        gate = linen.Dense(4)(y.mean((1, 2)))
        gate = linen.sigmoid(linen.Dense(16)(linen.relu(gate)))[:, None, None, :]
        return linen.Dense(5)((x + linen.Conv(8, (1, 1))(y * gate)).mean((1, 2)))


class LinenResNet(linen.Module):
    """Two residual blocks, the second one with a projected shortcut."""

    @linen.compact
    def __call__(self, x, train: bool):
        def norm(value):
            return linen.BatchNorm(use_running_average=not train, momentum=0.9)(value)

        x = linen.relu(norm(linen.Conv(8, (3, 3), use_bias=False)(x)))
        for features, stride in ((8, 1), (16, 2)):
            y = linen.relu(norm(linen.Conv(features, (3, 3), strides=stride, use_bias=False)(x)))
            y = norm(linen.Conv(features, (3, 3), use_bias=False)(y))
            if stride > 1:
                x = norm(linen.Conv(features, (1, 1), strides=stride, use_bias=False)(x))
            x = linen.relu(x + y)
        return linen.Dense(5)(x.mean((1, 2)))


class NnxUNet(nnx.Module):
    def __init__(self, rngs):
        self.down1 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.down2 = nnx.Conv(8, 16, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(16, num_groups=4, rngs=rngs)
        self.up = nnx.ConvTranspose(16, 8, (2, 2), strides=(2, 2), rngs=rngs)
        self.join = nnx.Conv(16, 8, (3, 3), rngs=rngs)
        self.out = nnx.Conv(8, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.down1(x))
        y = nnx.max_pool(x, (2, 2), strides=(2, 2))
        y = nnx.gelu(self.norm(self.down2(y)))
        y = jnp.concatenate([x, self.up(y)], axis=-1)
        return self.out(nnx.relu(self.join(y)))


class LinenUNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(8, (3, 3))(x))
        y = linen.avg_pool(x, (2, 2), strides=(2, 2))
        y = linen.gelu(linen.GroupNorm(num_groups=4)(linen.Conv(16, (3, 3))(y)), approximate=False)
        y = linen.ConvTranspose(8, (3, 3), strides=(2, 2), padding="VALID")(y)[:, :8, :8]
        y = jnp.concatenate([x, y], axis=-1)
        return linen.Conv(2, (1, 1))(linen.leaky_relu(linen.Conv(8, (3, 3))(y)))


class NnxViT(nnx.Module):
    """With a class token, dropout, and a position for every token."""

    def __init__(self, rngs):
        self.patches = nnx.Conv(3, 12, (4, 4), strides=(4, 4), padding="VALID", rngs=rngs)
        self.token = nnx.Param(jnp.zeros((1, 1, 12)))
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 5, 12)))
        self.norm1 = nnx.LayerNorm(12, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(3, 12, decode=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.norm2 = nnx.LayerNorm(12, rngs=rngs)
        self.expand = nnx.Linear(12, 24, rngs=rngs)
        self.project = nnx.Linear(24, 12, rngs=rngs)
        self.head = nnx.Linear(12, 5, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = jnp.concatenate([jnp.broadcast_to(self.token[...], (x.shape[0], 1, 12)), x], axis=1)
        x = x + self.positions[...]
        x = x + self.dropout(self.attention(self.norm1(x)))
        x = x + self.dropout(self.project(nnx.gelu(self.expand(self.norm2(x)))))
        return self.head(x[:, 0])


class LinenViT(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic: bool = True):
        x = linen.Conv(12, (4, 4), strides=(4, 4), padding="VALID")(x).reshape(x.shape[0], -1, 12)
        x = x + self.param("positions", linen.initializers.normal(0.02), (1, x.shape[1], 12))
        y = linen.MultiHeadDotProductAttention(3)(linen.LayerNorm()(x))
        x = x + linen.Dropout(0.2, deterministic=deterministic)(y)
        y = linen.Dense(12)(linen.gelu(linen.Dense(24)(linen.LayerNorm()(x))))
        x = x + linen.Dropout(0.2)(y, deterministic=deterministic)
        return linen.Dense(5)(x.mean(1))


class NnxTwoInputs(nnx.Module):
    def __init__(self, rngs):
        self.left = nnx.Linear(4, 8, rngs=rngs)
        self.right = nnx.Linear(6, 8, rngs=rngs)
        self.head = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x, y):
        return self.head(jnp.concatenate([nnx.relu(self.left(x)), nnx.tanh(self.right(y))], axis=-1))


class LinenTwoInputs(linen.Module):
    @linen.compact
    def __call__(self, x, y):
        return linen.Dense(3)(linen.relu(linen.Dense(8)(x)) * linen.Dense(8)(y))


class NnxTied(nnx.Module):
    """A language model whose output layer is its embedding, with one block used twice."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.block = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        for _ in range(2):
            x = x + nnx.gelu(self.block(self.norm(x)))
        return self.embed.attend(x)


class LinenTied(linen.Module):
    @linen.compact
    def __call__(self, tokens):
        embed, block = linen.Embed(11, 8), linen.Dense(8)
        x = embed(tokens)
        x = x + linen.relu(block(x))
        return embed.attend(x + linen.relu(block(x)))


class NnxLstm(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.LSTMCell(6, 8, rngs=rngs))
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x)[:, -1])


class LinenLstm(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(linen.RNN(linen.LSTMCell(8))(x)[:, -1])


def handwritten(params, x):
    """A pre-norm transformer block in plain `jax.numpy`: norm, causal attention in heads, perceptron."""
    batch, length, width = x.shape
    heads = 2

    def normalized(x, scale, bias):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return scale * (x - mean) / jnp.sqrt(variance + 1e-5) + bias

    y = normalized(x, params["scale1"], params["bias1"])
    query, key, value = ((y @ params[name]).reshape(batch, length, heads, -1) for name in ("query", "key", "value"))
    scores = jnp.einsum("bthd,bshd->bhts", query, key) / np.sqrt(width // heads)
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    x = x + jnp.einsum("bhts,bshd->bthd", weights, value).reshape(batch, length, width) @ params["out"]
    y = normalized(x, params["scale2"], params["bias2"])
    hidden = y @ params["w1"] + params["b1"]
    hidden = 0.5 * hidden * (1 + jnp.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    return x + (hidden @ params["w2"] + params["b2"])


def handwritten_params(width: int = 8):
    rng = np.random.default_rng(0)
    square = {name: (width, width) for name in ("query", "key", "value", "out")}
    vectors = {name: (width,) for name in ("scale1", "bias1", "scale2", "bias2", "b2")}
    shapes = square | vectors | {"w1": (width, 2 * width), "b1": (2 * width,), "w2": (2 * width, width)}
    return {name: (0.5 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
