"""Functions that lowering must get right, with inputs: every primitive that has a rule occurs in one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synth.graph import Graph, Input, Node
from synth.op import Op
from tests.alphanas.hardware import primitives
from tests.harnesses import OP_CASES, dtype_of
from tests.strategies import random_graph

BATCH = 2


@dataclass(frozen=True, eq=False)
class Case:
    """A function with inputs. `tolerance` is relative to the largest element of each output."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    tolerance: float = 1e-5


def array(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def convolution(channels: int, features: int, *, kernel: int = 3, groups: int = 1, **options: Any) -> Callable[..., Any]:
    weight = array(kernel, kernel, channels // groups, features)
    options = {"window_strides": (1, 1), "padding": "SAME", **options}
    numbers = ("NHWC", "HWIO", "NHWC")
    return lambda x: jax.lax.conv_general_dilated(x, weight, dimension_numbers=numbers, feature_group_count=groups, **options)


def residual_block(x: Any) -> Any:
    """Two convolutions with an epilogue of everything: bias, scale, activation, a sum read twice."""
    first = jax.nn.silu(convolution(20, 20)(x) * 0.1 + array(20))
    second = convolution(20, 20)(first) * 0.1 + x
    return jax.nn.relu(second), second.mean((1, 2))


def tiny_cnn(x: Any) -> Any:
    """What a small image model is made of, with channels that fill no vector."""
    x = jax.nn.relu(convolution(3, 17, window_strides=(2, 2))(x))
    x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    x = x + jax.nn.gelu(convolution(17, 17, groups=17)(x))
    gate = jax.nn.sigmoid(x.mean((1, 2)) @ array(17, 17))
    return jax.nn.log_softmax((x * gate[:, None, None, :]).mean((1, 2)) @ array(17, 10))


def attention(x: Any) -> Any:
    """Masked attention over a prime number of positions, with heads that fill no vector."""
    query, key, value = (jnp.einsum("btc,chd->bthd", x, array(12, 3, 4, seed=seed)) + array(3, 4) for seed in range(3))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / 2.0
    scores = jnp.where(np.tri(x.shape[1], dtype=bool), scores, -1e30)
    return x + jnp.einsum("bqhd,hdc->bqc", jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value), array(3, 4, 12))


def elementwise(x: Any, y: Any) -> Any:
    """All element-wise arithmetic."""
    number = jnp.floor(x * 4).astype(jnp.int32)
    bits = jnp.ceil(y * 4).astype(jnp.int32)
    both = (x > 0.5) & (y <= 0.5) | (x < -1) ^ (y >= 1) | ~(x == y) & (x != y) & jnp.isfinite(x)
    cases = jax.lax.select_n(jnp.clip(number, 0, 2), x, y, x * y)
    return (
        (x + y, x - y, x / y, jnp.maximum(x, y), jnp.minimum(x, y), jax.lax.rem(x, y), -x, jnp.abs(x), jnp.sign(x)),
        (jnp.clip(x, -0.5, 0.5), jnp.square(x), x**3, x**-2, jnp.sqrt(jnp.abs(x)), jax.lax.rsqrt(jnp.abs(x) + 1)),
        (number // 3, number & bits, number | bits, number ^ bits, ~number, jax.lax.rem(number, 3), jax.lax.div(number, 2)),
        (both, jnp.where(both, x, y), cases, jax.lax.clamp(-1.0, x, 1.0), jax.lax.reduce_precision(x, 8, 23)),
    )


def transcendental(x: Any) -> Any:
    """All functions that are polynomials here."""
    positive = jnp.abs(x) + 0.1
    return (
        (jnp.exp(x), jnp.exp2(x), jnp.expm1(x), jnp.tanh(x), jax.nn.sigmoid(x), jax.lax.erf(x), jax.lax.erfc(x)),
        (jnp.log(positive), jnp.log1p(positive), positive**0.7, jnp.sin(x), jnp.cos(x)),
    )


def layouts(x: Any) -> Any:
    """All that moves elements. x: 2×6×8."""
    turned = jnp.transpose(x.reshape(2, 3, 2, 8), (0, 3, 1, 2))
    padded = jax.lax.pad(x, 0.5, ((0, 0, 0), (1, -2, 1), (2, 1, 0)))
    parts = jnp.split(x, 2, axis=-1)
    return (
        (turned.reshape(2, 8, 6) + 1, padded, x[:, 1:5:2, ::-1], jnp.concatenate([x, 2 * parts[0], parts[1]], -1)),
        (jnp.tile(x, (1, 2, 1)) * 2, jnp.broadcast_to(x[:, :1], x.shape) + x, x[:, 0] - x[:, -1]),
        (jax.lax.broadcasted_iota(jnp.float32, (2, 6, 8), 1) * x, jnp.expand_dims(x, 1) + x[:, :, None]),
    )


def gathers(x: Any, at: Any) -> Any:
    """Elements found through data: rows of a table, inside and beyond its bounds, and along an axis. x: 2×11×6, at: 2×3."""
    table, numbers = array(11, 6), np.arange(7, dtype=np.int32)
    return (
        (jnp.take(table, at, axis=0), jnp.take(table, 3 * at, axis=0, mode="clip"), x[:, at[0]] * 2, x[:, :, at[1] - 4]),
        (jnp.take_along_axis(x[..., 0], at, axis=1), jnp.take(numbers, 3 * at, mode="fill"), x[0, at[0, 0], at[:, 0]] * 2),
    )


def reductions(x: Any) -> Any:
    """All reductions, over axes in front, in the middle and last. x: 2×6×5×32."""
    return (
        (x.sum(-1), x.max(1), x.min((1, 2)), jnp.abs(x).mean(), x[..., 0].prod(-1), (x > 2).any(-1), (x > -2).all((1, 3))),
        (x.sum((1, 3)), x.max((0, 1, 2, 3)), jax.nn.softmax(x, -1), jax.nn.softmax(x, 1), x - x.mean(-1, keepdims=True)),
    )


def windows(x: Any) -> Any:
    """Pools of all kinds. x: 2×9×8×20."""
    small = -jax.lax.reduce_window(x, np.inf, jax.lax.min, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    total = jax.lax.reduce_window(x * 2, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME") / 9
    spread = jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID", window_dilation=(1, 2, 2, 1))
    return small, total, spread


def products(x: Any, y: Any) -> Any:
    """Products with the constant on either side, of data with data, without rows or without columns. x: 2×5×12, y: 2×12×7."""
    return (
        (x @ y, jnp.einsum("ij,bjk->bik", array(4, 5), x), x[0, 0] @ array(12, 3), array(3, 12) @ x[0, 0], x[0, 0] @ x[0, 1]),
        (jnp.einsum("btc,bsc->bts", x, x), jnp.einsum("btc,bcs->sbt", x, y), x @ array(12, 37), x[:1, 0] @ array(12, 100)),
    )


def reshaped_epilogue(x: Any) -> Any:
    """Rows and features that are filled in memory, read through other shapes right after. x: 1×5×34×8."""
    y = (x @ array(8, 34)).reshape(1, 170, 2, 17) * array(2, 17)
    z = jax.nn.relu(x @ array(8, 6) + array(6)).reshape(1, 170, 2, 3)
    return y, jax.nn.relu(y), z.mean((1, 3)), (z - 1).reshape(1, 5, 34, 6)


def gradient_forms(x: Any) -> Any:
    """Convolutions in another order of axes, transposed, and over one axis. x: 2×7×6×8."""
    other = jax.lax.conv_general_dilated(jnp.transpose(x, (0, 3, 1, 2)), array(4, 8, 3, 3), (1, 1), "SAME")
    transposed = jax.lax.conv_transpose(x, array(3, 3, 8, 4), (2, 2), "SAME")
    line = jax.lax.conv_general_dilated(x[:, :, 0], array(3, 8, 20), (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
    return other, transposed, line


def winograd(x: Any) -> Any:
    """3×3 convolutions with many tiles, which have a Winograd form, padded in all ways, with an epilogue. x: 2×17×14×20."""
    first = jax.nn.relu(convolution(20, 33)(x) * 0.1 + array(33))
    return (
        first,
        convolution(33, 16, padding="VALID")(first) * 0.1,
        convolution(20, 20, padding=((2, 1), (0, 2)))(x) * 0.1 + x[:, :1],
    )


def pointwise(x: Any) -> Any:
    """1×1 convolutions on places that no tile divides, with a residual and a gate. x: 1×17×17×24."""
    narrow = jax.nn.relu(convolution(24, 10, kernel=1)(x))
    wide = jax.nn.relu(convolution(10, 24, kernel=1)(convolution(10, 10)(narrow)) + x)
    gate = jax.nn.sigmoid(convolution(24, 24, kernel=1)(wide.mean((1, 2), keepdims=True)))
    fewer = convolution(24, 20, kernel=1, window_strides=(2, 3))
    return (
        convolution(24, 20, kernel=1)(wide * gate),
        fewer(wide * gate) + fewer(x),
        convolution(24, 6, kernel=1)(x).reshape(1, 289, 2, 3) * array(2, 3),
    )


def from_afar(x: Any) -> Any:
    """Products with weights that no near cache holds, of several tiles and of one, of a number of places that none divides."""
    wide = jax.nn.relu(convolution(256, 440, kernel=1)(x) * 0.1)
    return wide, convolution(256, 512, kernel=1, window_strides=(2, 2))(x), wide.mean((1, 2)) @ array(440, 300)


def excited(features: int, *, residual: bool = False) -> Callable[..., Any]:
    """Squeeze-excite between a convolution and a 1×1 one, which is where it stands in published networks. x: 24 channels."""

    def block(x: Any) -> Any:
        value = jax.nn.silu(convolution(24, 24, groups=24)(x) * 0.3 + array(24))
        small = jax.nn.silu(convolution(24, 6, kernel=1)(value.mean((1, 2), keepdims=True)) + array(6))
        gate = jax.nn.sigmoid(convolution(6, 24, kernel=1)(small) + array(24, seed=1))
        narrow = convolution(24, features, kernel=1)(value * gate) * 0.2 + array(features)
        return narrow + x[..., :features] if residual else narrow

    return block


def siblings(x: Any) -> Any:
    """Products of one value that go on alike but for a scale or a bias, and others that do not; read whole and in parts.

    x: 2×9×8×20.
    """
    first, second, third = (jax.nn.silu(convolution(20, n, kernel=1)(x) * 0.1 + array(n)) for n in (24, 7, 33))
    places = x.reshape(2, 72, 20)
    query, key = ((places @ array(20, 12, seed=seed)).reshape(2, 72, 3, 4) for seed in (0, 1))
    value = (places @ array(20, 20)).reshape(2, 72, 5, 4) - array(5, 4)
    query = (query + array(3, 4)) * 0.3
    gate, plain = jax.nn.relu(x[0] @ array(20, 10)), x[0] @ array(20, 10, seed=1)
    return (
        convolution(24, 10)(first) * 0.1 + second.sum(-1, keepdims=True),
        third[:, ::-1] * first[..., 1:2],
        jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) * 0.1, -1),
        (value.sum(-2), (value.reshape(2, 72, 20) * 2).transpose(0, 2, 1), second.reshape(-1)),
        (gate * plain, jax.nn.relu(x[0, 0, 0] @ array(20, 9)).sum(), jax.nn.relu(x[0, 0, 0] @ array(20, 8)).sum()),
    )


GROUPED = (
    (16, 16, 4, 3, {}),
    (48, 48, 3, 3, {"window_strides": (2, 2)}),
    (48, 24, 8, 5, {}),
    (16, 32, 16, 3, {"padding": "VALID"}),
    (48, 48, 2, 3, {"rhs_dilation": (2, 2)}),
    (48, 96, 4, 1, {}),
    (48, 48, 16, 3, {"window_strides": (2, 2), "padding": ((2, 1), (0, 2))}),
    (48, 48, 48, 5, {"window_strides": (2, 2)}),
)
"""(channels, features, groups, kernel, options): groups narrower and wider than a vector, one feature a channel and several."""


def grouped(x: Any) -> Any:
    """Grouped convolutions of all kinds. x: 2×9×8×48."""
    return [
        convolution(channels, features, kernel=kernel, groups=groups, **options)(x[..., :channels] * 1.0)
        for channels, features, groups, kernel, options in GROUPED
    ]


def many_groups(x: Any) -> Any:
    """Grouped convolutions that threads share by groups, each of one block of features or several. x: 2×9×8×128."""
    first = convolution(128, 128, groups=16)(x) * 0.1
    strided = convolution(128, 256, groups=8, window_strides=(2, 2))(first + x) * 0.1
    return first, jax.nn.relu(strided), convolution(128, 128, kernel=5, groups=8, rhs_dilation=(2, 2))(x) * 0.1


def narrow_groups(x: Any) -> Any:
    """Groups narrower than a vector with as many features as channels, in strips and whole, of lines and not. x: 2×33×28×48."""
    first = convolution(48, 48, groups=12)(x) * 0.1
    strided = convolution(48, 48, groups=24, window_strides=(2, 2), padding=((2, 1), (0, 2)))(jax.nn.relu(first) + x)
    row = convolution_of_rows(24, 6)(x[:, 0, :, :24])
    return first, jax.nn.silu(strided) + 1.0, convolution(48, 48, groups=16, rhs_dilation=(1, 2), padding="VALID")(x), row


def convolution_of_rows(features: int, groups: int) -> Callable[..., Any]:
    """A grouped convolution of one axis. x: batch×places×features."""
    weight = array(3, features // groups, features)
    numbers = ("NHC", "HIO", "NHC")
    return lambda x: jax.lax.conv_general_dilated(x, weight, (1,), "SAME", dimension_numbers=numbers, feature_group_count=groups)


def expanded(channels: int, features: int, *, kernel: int = 3, **options: Any) -> Callable[..., Any]:
    """A 1×1 convolution and a depthwise one that alone reads it, each with an epilogue."""
    widen, filtered = (
        convolution(channels, features, kernel=1),
        convolution(features, features, kernel=kernel, groups=features, **options),
    )
    return lambda x: jax.nn.relu6(filtered(jax.nn.silu(widen(x) + array(features))) * 0.1 + array(features, seed=1))


def _functions() -> list[Case]:
    ramp = np.linspace(-9, 9, 2001, dtype=np.float32)
    image = array(BATCH, 9, 8, 20)
    return [
        Case("elementwise", elementwise, (array(3, 50), array(3, 50, seed=1)), 1e-6),
        Case("transcendental", transcendental, (ramp,), 1e-6),
        Case("layouts", layouts, (array(2, 6, 8),), 1e-6),
        Case("gathers", gathers, (array(2, 11, 6), np.array([[1, 5, -2], [4, 0, 3]], np.int32)), 1e-6),
        Case("reductions", reductions, (array(2, 6, 5, 32),)),
        Case("windows", windows, (image,)),
        Case("products", products, (array(2, 5, 12), array(2, 12, 7))),
        Case("reshaped_epilogue", reshaped_epilogue, (array(1, 5, 34, 8),)),
        Case("gradient_forms", gradient_forms, (array(2, 7, 6, 8),)),
        Case("convolution_17_37", convolution(17, 37, window_strides=(2, 2)), (array(2, 9, 9, 17),)),
        Case("convolution_long_row", convolution(3, 17, padding="VALID"), (array(1, 5, 39, 3),)),
        Case("convolution_grouped", convolution(24, 40, groups=2), (array(1, 8, 8, 24),)),
        Case("convolution_many_groups", many_groups, (array(BATCH, 9, 8, 128),)),
        Case("convolution_narrow_groups", narrow_groups, (array(BATCH, 33, 28, 48),)),
        Case("convolution_depthwise", convolution(70, 70, kernel=5, groups=70), (array(1, 9, 9, 70),)),
        Case("convolution_multiplied", convolution(8, 24, groups=8, rhs_dilation=(2, 2)), (array(1, 9, 9, 8),)),
        Case("expanded_whole", expanded(12, 40, kernel=5), (array(BATCH, 7, 9, 12),)),
        Case("expanded_strips", expanded(5, 48, window_strides=(2, 2)), (array(BATCH, 64, 60, 5),)),
        Case("expanded_odd_rows", expanded(3, 33, padding=((2, 1), (0, 3)), rhs_dilation=(2, 2)), (array(1, 58, 61, 3),)),
        Case("expanded_residual", lambda x: expanded(20, 20)(x) + x, (image,)),
        Case("winograd", winograd, (array(2, 17, 14, 20),), 5e-5),
        Case("pointwise", pointwise, (array(1, 17, 17, 24),)),
        Case("excited", excited(20), (array(1, 17, 17, 24),)),
        Case("excited_images", excited(20, residual=True), (array(3, 9, 8, 24),)),
        Case("excited_few_places", excited(20), (array(2, 4, 4, 24),)),
        Case("siblings", siblings, (image,)),
        Case("from_afar", from_afar, (array(1, 9, 7, 256),)),
        Case("grouped", grouped, (array(2, 9, 8, 48),)),
        Case("residual_block", residual_block, (image,)),
        Case("tiny_cnn", tiny_cnn, (array(2, 16, 15, 3),)),
        Case("attention", attention, (array(2, 17, 12),)),
        Case("ordered", primitives.ordered, (array(4, 37),), 0.0),
        Case("running", primitives.running, (array(4, 37),), 1e-6),
        Case("dynamic", primitives.dynamic, (array(4, 37), primitives.AT), 1e-6),
        Case("functions", primitives.functions, (array(4, 37),), 1e-6),
        Case("integers", primitives.integers, ((array(4, 37) * 100).astype(np.int32),), 0.0),
        Case("control", primitives.control, (array(4, 37), primitives.AT), 1e-6),
        Case("same_value_out", lambda x: (x, x * 2, jnp.float32(3.0)), (array(2, 3),)),
    ]


def _graph_case(name: str, graph: Graph) -> Case:
    variables = graph.init(jax.random.key(0))
    inputs = tuple(_numbers(item.dtype, tuple(BATCH if size is None else size for size in item.shape)) for item in graph.inputs)
    return Case(name, lambda *arguments: graph.apply(variables, *arguments), inputs)


def _numbers(dtype: str, shape: tuple[int, ...]) -> Any:
    return array(*shape) if dtype == "float32" else np.random.default_rng(0).integers(0, 5, shape).astype(dtype)


def of_op(op: Op, shapes: tuple[tuple[int, ...], ...]) -> Graph:
    """The graph of one op."""
    inputs = tuple(Input(f"x{n}", (None, *shape), dtype_of(op)) for n, shape in enumerate(shapes))
    return Graph(inputs, (Node("op", op, tuple(item.name for item in inputs)),), ("op",))


def cases() -> list[Case]:
    """All cases; names are unique."""
    ops = [_graph_case(f"op{n}_{op.kind()}", of_op(op, shapes)) for n, (op, shapes) in enumerate(OP_CASES)]
    graphs = [_graph_case(f"random{seed}", random_graph(np.random.default_rng(seed), nodes=12)) for seed in range(4)]
    return [*_functions(), *ops, *graphs]


def names() -> list[str]:
    """The cases' names, without making them."""
    ops = [f"op{n}_{op.kind()}" for n, (op, _) in enumerate(OP_CASES)]
    return [*(case.name for case in _functions()), *ops, *(f"random{seed}" for seed in range(4))]
