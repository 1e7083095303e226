"""How each op reads in Flax: the module that it needs, if any, and the expression that applies it. A new op is a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from synth.op import Op, Value
from synth.ops import activation, attention, convolution, dense, embedding, layout, merge, normalization, pooling

REQUIRED = object()


@dataclass(frozen=True)
class Argument:
    """An argument of a module's constructor; it is written only where it is not the constructor's own default."""

    name: str
    value: Any
    default: Any = REQUIRED
    positional: bool = False


@dataclass(frozen=True)
class Module:
    """A call of a constructor, `rngs` left out."""

    factory: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Layer:
    """An op in Flax: `{self}` in the expression is its module, `{0}`, `{1}` … are its inputs."""

    expression: str
    module: Module | None = None
    infix: bool = False


Writer = Callable[[Any, tuple[Value, ...]], Layer | None]
"""How an op on these inputs reads; None where Flax has no word for this case of it, which is then written from its jaxpr."""

CALL = "{self}({0})"


def _sizes(axes: convolution.Axes, rank: int) -> tuple[int, ...]:
    return convolution.per_axis(axes, rank)


def _short(axes: convolution.Axes, rank: int) -> Any:
    sizes = _sizes(axes, rank)
    return sizes[0] if len(set(sizes)) == 1 else sizes


def conv(op: Any, inputs: tuple[Value, ...]) -> Layer:
    """Dense, grouped and depthwise convolutions."""
    (x,) = inputs
    rank = len(x.shape) - 2
    groups, features = op._groups(x.channels)
    arguments = (
        Argument("in_features", x.channels, positional=True),
        Argument("out_features", features, positional=True),
        Argument("kernel_size", _sizes(op.kernel, rank), positional=True),
        Argument("strides", _short(op.stride, rank), 1),
        Argument("padding", op.padding, "SAME"),
        Argument("kernel_dilation", _short(op.dilation, rank), 1),
        Argument("feature_group_count", groups, 1),
        Argument("use_bias", op.use_bias, True),
    )
    return Layer(CALL, Module("nnx.Conv", arguments))


def conv_transpose(op: convolution.ConvTranspose, inputs: tuple[Value, ...]) -> Layer:
    """Transposed convolutions."""
    (x,) = inputs
    rank = len(x.shape) - 2
    arguments = (
        Argument("in_features", x.channels, positional=True),
        Argument("out_features", op.features, positional=True),
        Argument("kernel_size", _sizes(op.kernel, rank), positional=True),
        Argument("strides", _short(op.stride, rank), 1),
        Argument("padding", op.padding, "SAME"),
        Argument("kernel_dilation", _short(op.dilation, rank), 1),
        Argument("use_bias", op.use_bias, True),
    )
    return Layer(CALL, Module("nnx.ConvTranspose", arguments))


def embed(op: embedding.Embed, inputs: tuple[Value, ...]) -> Layer:
    """Rows of a table by token."""
    return Layer(CALL, Module("nnx.Embed", _table(op.entries, op.features)))


def attend(op: embedding.Attend, inputs: tuple[Value, ...]) -> Layer:
    """Products with the rows of a table."""
    return Layer("{self}.attend({0})", Module("nnx.Embed", _table(op.features, inputs[0].channels)))


def _table(rows: int, features: int) -> tuple[Argument, ...]:
    return Argument("num_embeddings", rows, positional=True), Argument("features", features, positional=True)


def feature_slice(op: layout.Slice, inputs: tuple[Value, ...]) -> Layer:
    """A part of the features."""
    return Layer(f"{{0}}[..., {op.start}:{op.stop}]")


def linear(op: dense.Dense, inputs: tuple[Value, ...]) -> Layer:
    """Dense layers."""
    arguments = (
        Argument("in_features", inputs[0].channels, positional=True),
        Argument("out_features", op.features, positional=True),
        Argument("use_bias", op.use_bias, True),
    )
    return Layer(CALL, Module("nnx.Linear", arguments))


def batch_norm(op: normalization.BatchNorm, inputs: tuple[Value, ...]) -> Layer:
    """Batch norm: Flax's momentum is the part of the old statistics that is kept, as ours is."""
    arguments = (
        Argument("num_features", inputs[0].channels, positional=True),
        Argument("momentum", op.momentum, 0.99),
        Argument("epsilon", op.epsilon, 1e-5),
    )
    return Layer(CALL, Module("nnx.BatchNorm", arguments))


def _norm(factory: str, *, exact: bool, grouped: bool = False) -> Writer:
    def write(op: Any, inputs: tuple[Value, ...]) -> Layer:
        arguments = [Argument("num_features", inputs[0].channels, positional=True)]
        if grouped:
            arguments.append(Argument("num_groups", op.groups))
        arguments.append(Argument("epsilon", op.epsilon, 1e-6))
        if exact:
            # Flax's fast variance, E[x²] - E[x]², loses digits where the mean is far from zero.
            arguments.append(Argument("use_fast_variance", False))
        return Layer(CALL, Module(factory, tuple(arguments)))

    return write


def multi_head_attention(op: attention.MultiHeadAttention, inputs: tuple[Value, ...]) -> Layer:
    """Self-attention, masked where it is causal."""
    arguments = (
        Argument("num_heads", op.heads),
        Argument("in_features", inputs[0].channels),
        Argument("decode", False),
    )
    expression = "{self}({0}, mask=nnx.make_causal_mask({0}[..., 0]))" if op.causal else CALL
    return Layer(expression, Module("nnx.MultiHeadAttention", arguments))


def dot_product_attention(op: attention.Attention, inputs: tuple[Value, ...]) -> Layer | None:
    """Attention of given queries, keys and values, each split into heads; Flax wants values as wide as keys."""
    if inputs[2].channels != inputs[1].channels:
        return None
    mask = ", mask=nnx.make_causal_mask({0}[..., 0])" if op.causal else ""
    split = f"*(t.reshape(*t.shape[:2], {op.heads}, -1) for t in ({{0}}, {{1}}, {{2}}))"
    return Layer(f"nnx.dot_product_attention({split}{mask}).reshape(*{{0}}.shape[:2], {inputs[2].channels})")


def dropout(op: activation.Dropout, inputs: tuple[Value, ...]) -> Layer:
    """Dropout, with a random stream of its own."""
    return Layer(CALL, Module("nnx.Dropout", (Argument("rate", op.rate, positional=True),)))


def stochastic_depth(op: activation.StochasticDepth, inputs: tuple[Value, ...]) -> Layer:
    """Dropout whose mask all elements of an example share."""
    shared = tuple(range(1, len(inputs[0].shape)))
    arguments = (Argument("rate", op.rate, positional=True), Argument("broadcast_dims", shared))
    return Layer(CALL, Module("nnx.Dropout", arguments))


def class_token(op: attention.ClassToken, inputs: tuple[Value, ...]) -> Layer:
    """Learned vectors in front, a helper class."""
    arguments = (Argument("num_features", inputs[0].channels, positional=True), Argument("tokens", op.tokens, 1))
    return Layer(CALL, Module("ClassToken", arguments))


def select(op: layout.Select, inputs: tuple[Value, ...]) -> Layer:
    """One position of an axis."""
    return Layer(f"{{0}}[{':, ' * op.axis}{op.index}]")


def position_embedding(op: attention.PositionEmbedding, inputs: tuple[Value, ...]) -> Layer:
    """Learned positions, a helper class."""
    shape = tuple(size for size in inputs[0].shape[1:] if size is not None)
    return Layer(CALL, Module("PositionEmbedding", (Argument("shape", shape, positional=True),)))


def scale(op: activation.Scale, inputs: tuple[Value, ...]) -> Layer:
    """Learned feature scales, a helper class."""
    arguments = (Argument("num_features", inputs[0].channels, positional=True), Argument("initial", op.initial, 1.0))
    return Layer(CALL, Module("Scale", arguments))


def gelu(op: activation.Gelu, inputs: tuple[Value, ...]) -> Layer:
    """Gelu; Flax's default is the approximation."""
    return Layer("nnx.gelu({0})" if op.approximate else "nnx.gelu({0}, approximate=False)")


def _pool(function: str) -> Writer:
    def write(op: Any, inputs: tuple[Value, ...]) -> Layer:
        rank = len(inputs[0].shape) - 2
        window, strides = (op.window,) * rank, (op.stride,) * rank
        padding = "" if op.padding == "VALID" else f', padding="{op.padding}"'
        counted = "" if getattr(op, "count_padding", True) else ", count_include_pad=False"
        return Layer(f"{function}({{0}}, {window}, strides={strides}{padding}{counted})")

    return write


def global_avg_pool(op: pooling.GlobalAvgPool, inputs: tuple[Value, ...]) -> Layer:
    """The mean over the spatial axes."""
    axes = tuple(range(1, len(inputs[0].shape) - 1))
    keep = ", keepdims=True" if op.keep_axes else ""
    return Layer(f"jnp.mean({{0}}, axis={axes if len(axes) > 1 else axes[0]}{keep})")


def _infix(symbol: str) -> Writer:
    def write(op: Op, inputs: tuple[Value, ...]) -> Layer:
        return Layer(f" {symbol} ".join(f"{{{index}}}" for index in range(len(inputs))), infix=True)

    return write


def concatenate(op: merge.Concatenate, inputs: tuple[Value, ...]) -> Layer:
    """Concatenation along the features."""
    return Layer(f"jnp.concatenate([{', '.join(f'{{{index}}}' for index in range(len(inputs)))}], axis=-1)")


def reshape(op: layout.Reshape, inputs: tuple[Value, ...]) -> Layer:
    """A reshape that leaves the batch alone; a size that is solved for is written out, so that the batch can be."""
    elements = 1
    for size in inputs[0].shape[1:]:
        elements *= size or 1
    known = 1
    for size in op.shape:
        known *= size if size != -1 else 1
    shape = ", ".join(str(size if size != -1 else elements // known) for size in op.shape)
    return Layer(f"{{0}}.reshape(-1, {shape})")


def transpose(op: layout.Transpose, inputs: tuple[Value, ...]) -> Layer:
    """A transposition that leaves the batch first."""
    return Layer(f"{{0}}.transpose({', '.join(map(str, (0, *op.order)))})")


def _plain(expression: str) -> Writer:
    return lambda op, inputs: Layer(expression)


WRITERS: Mapping[type[Op], Writer] = {
    convolution.Conv: conv,
    convolution.DepthwiseConv: conv,
    convolution.ConvTranspose: conv_transpose,
    dense.Dense: linear,
    embedding.Embed: embed,
    embedding.Attend: attend,
    normalization.BatchNorm: batch_norm,
    normalization.LayerNorm: _norm("nnx.LayerNorm", exact=True),
    normalization.RmsNorm: _norm("nnx.RMSNorm", exact=False),
    normalization.GroupNorm: _norm("nnx.GroupNorm", exact=True, grouped=True),
    activation.Relu: _plain("nnx.relu({0})"),
    activation.Relu6: _plain("nnx.relu6({0})"),
    activation.Gelu: gelu,
    activation.Silu: _plain("nnx.silu({0})"),
    activation.HardSilu: _plain("nnx.hard_silu({0})"),
    activation.Sigmoid: _plain("nnx.sigmoid({0})"),
    activation.HardSigmoid: _plain("nnx.hard_sigmoid({0})"),
    activation.SquaredRelu: _plain("jnp.square(nnx.relu({0}))"),
    activation.Softmax: _plain("nnx.softmax({0})"),
    activation.Scale: scale,
    activation.Dropout: dropout,
    activation.StochasticDepth: stochastic_depth,
    pooling.AvgPool: _pool("nnx.avg_pool"),
    pooling.MaxPool: _pool("nnx.max_pool"),
    pooling.GlobalAvgPool: global_avg_pool,
    merge.Add: _infix("+"),
    merge.Multiply: _infix("*"),
    merge.Concatenate: concatenate,
    attention.MultiHeadAttention: multi_head_attention,
    attention.Attention: dot_product_attention,
    attention.PositionEmbedding: position_embedding,
    attention.ClassToken: class_token,
    layout.Slice: feature_slice,
    layout.Flatten: _plain("{0}.reshape({0}.shape[0], -1)"),
    layout.Reshape: reshape,
    layout.Transpose: transpose,
    layout.Select: select,
    layout.Zero: _plain("jnp.zeros_like({0})"),
}

HELPERS: Mapping[str, str] = {
    "PositionEmbedding": '''\
class PositionEmbedding(nnx.Module):
    """Adds a learned vector to every position."""

    def __init__(self, shape: tuple[int, ...], *, rngs: nnx.Rngs):
        self.embedding = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.embedding[...]
''',
    "ClassToken": '''\
class ClassToken(nnx.Module):
    """Puts learned vectors in front of the positions."""

    def __init__(self, num_features: int, *, tokens: int = 1, rngs: nnx.Rngs):
        self.token = nnx.Param(jnp.zeros((tokens, num_features)))

    def __call__(self, x: jax.Array) -> jax.Array:
        tokens = jnp.broadcast_to(self.token[...], (x.shape[0], *self.token.shape))
        return jnp.concatenate([tokens, x], axis=1)
''',
    "Scale": '''\
class Scale(nnx.Module):
    """Multiplies every feature by a learned number."""

    def __init__(self, num_features: int, *, initial: float = 1.0, rngs: nnx.Rngs):
        self.scale = nnx.Param(jnp.full(num_features, initial))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.scale[...]
''',
}
