"""Laws of the flat program and of the grouping into kernels; TVM is not needed for either."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphanas.hardware.canonical import canonical
from alphanas.hardware.flattening import flatten
from alphanas.hardware.kernels import ANCHORS, plan
from alphanas.hardware.program import NotLowerable
from alphanas.hardware.rows import exits, grouped, planned
from alphanas.models.zoo.net import Net
from synth.ops.activation import Gelu
from tests.alphanas.hardware import cases

IMAGE = cases.array(1, 8, 8, 16)


@pytest.mark.parametrize("case", cases.cases(), ids=lambda case: case.name)
def test_every_value_is_computed_before_it_is_read(case: cases.Case) -> None:
    planned = plan(canonical(flatten(case.function, *case.inputs)))
    flat = planned.flat
    producers = {step.output: step for step in flat.steps}
    ready = set(flat.inputs) | set(flat.constants)
    for kernel in planned.kernels:
        stack, seen, anchors = [kernel.output], set(), []
        while stack:
            slot = stack.pop()
            if slot in seen or (slot in planned.stored and slot != kernel.output) or slot in flat.constants:
                assert slot in seen or slot in ready
                continue
            seen.add(slot)
            if producers[slot].primitive in ANCHORS:
                anchors.append(producers[slot])
            stack.extend(producers[slot].inputs)
        assert anchors == ([kernel.anchor] if kernel.anchor else [])
        ready.add(kernel.output)
    assert ready.issuperset(flat.outputs)


def test_constants_are_folded_and_weights_never_grow() -> None:
    bias = cases.array(16)
    flat = flatten(lambda x: x + jnp.broadcast_to(jnp.sqrt(jnp.abs(bias)) * 2, x.shape), IMAGE)
    assert [step.primitive for step in flat.steps] == ["broadcast_in_dim", "add"]
    assert max(value.size for value in flat.constants.values()) == 16


def test_a_residual_block_is_one_kernel_a_convolution() -> None:
    def block(x: jax.Array) -> jax.Array:
        first = jax.nn.relu(cases.convolution(16, 16)(x) * 2.0 + cases.array(16))
        return jax.nn.relu(cases.convolution(16, 16)(first) + x)

    planned = plan(canonical(flatten(block, IMAGE)))
    assert [kernel.anchor.primitive for kernel in planned.kernels if kernel.anchor] == ["convolve", "convolve"]
    assert len(planned.kernels) == 2


def test_an_activation_that_reads_its_input_twice_stays_in_the_kernel() -> None:
    planned = plan(canonical(flatten(lambda x: jax.nn.gelu(jax.nn.silu(cases.convolution(16, 8)(x))), IMAGE)))
    assert len(planned.kernels) == 1


def test_a_costly_value_with_two_readers_is_computed_once() -> None:
    def twice(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = jnp.exp(x)
        return y.sum(-1), y.max(-1)

    assert len(plan(canonical(flatten(twice, IMAGE))).kernels) == 3


def layer_norm(x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6) * cases.array(16) + cases.array(16)


def shared_sum(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    total = x.sum(-1, keepdims=True)
    return total, x / total


def in_rows(function: object) -> list[tuple[str, int]]:
    """For each kernel its anchor's name and how many kernels run inside it."""
    flat = canonical(flatten(function, cases.array(4, 8, 16)))  # type: ignore[arg-type]
    found = grouped(plan(flat, frozenset(exits(flat, flat.readers))))
    return [(kernel.anchor.primitive if kernel.anchor else "map", len(kernel.before)) for kernel in found.kernels]


@pytest.mark.parametrize(
    ("function", "kernels"),
    [
        (jax.nn.softmax, [("map", 3)]),
        (layer_norm, [("map", 2)]),
        (lambda x: jax.nn.softmax(x) @ cases.array(16, 4), [("map", 3), ("contract", 0)]),
        (lambda x: jax.nn.softmax(x, axis=1), [("reduce", 0), ("map", 0), ("reduce", 0), ("map", 0)]),
        (shared_sum, [("reduce", 0), ("map", 0)]),
        (lambda x: x / x[::-1].sum(-1, keepdims=True), [("map", 1)]),
        (lambda x: x / x.sum(-1, keepdims=True)[::-1], [("reduce", 0), ("map", 0)]),
    ],
)
def test_what_goes_row_by_row_is_one_kernel(function: object, kernels: list[tuple[str, int]]) -> None:
    assert in_rows(function) == kernels


def expands_twice(x: jax.Array) -> jax.Array:
    wide = cases.convolution(8, 24, kernel=1)(x)
    return cases.convolution(24, 24, groups=24)(wide) + wide


@pytest.mark.parametrize(
    ("function", "kernels"),
    [
        (cases.expanded(8, 24), [("convolve", 1)]),
        (lambda x: cases.expanded(8, 8)(cases.expanded(8, 8)(x)), [("convolve", 1), ("convolve", 1)]),
        (expands_twice, [("convolve", 0), ("convolve", 0)]),
        (lambda x: cases.convolution(24, 24, groups=3)(cases.convolution(8, 24, kernel=1)(x)), [("convolve", 0), ("convolve", 0)]),
        (lambda x: cases.convolution(24, 24, groups=24)(cases.convolution(8, 24)(x)), [("convolve", 0), ("convolve", 0)]),
    ],
)
def test_a_pointwise_convolution_is_part_of_the_depthwise_one_that_alone_reads_it(
    function: object, kernels: list[tuple[str, int]]
) -> None:
    found = planned(canonical(flatten(function, cases.array(1, 9, 10, 8)))).kernels  # type: ignore[arg-type]
    assert [(kernel.anchor.primitive if kernel.anchor else "map", len(kernel.before)) for kernel in found] == kernels


def products(function: object, *shape: int) -> list[tuple[str, int]]:
    """The name and the features of every kernel that is a product or a convolution."""
    found = planned(canonical(flatten(function, cases.array(*shape))))  # type: ignore[arg-type]
    steps = [kernel.anchor for kernel in found.kernels if kernel.anchor is not None]
    return [
        (step.primitive, found.flat.types[step.output].shape[-1]) for step in steps if step.primitive in ("contract", "convolve")
    ]


def alike(x: jax.Array) -> jax.Array:
    first, second = (jax.nn.silu(cases.convolution(8, n, kernel=1)(x) * 0.1 + cases.array(n)) for n in (12, 5))
    return first.sum(-1) - second.sum(-1)


def scaled_apart(x: jax.Array) -> jax.Array:
    first, second = (x @ cases.array(8, 6, seed=seed) for seed in (0, 1))
    return ((first + cases.array(6)) * 2.0)[::-1] - second[:, ::-1]


def large(x: jax.Array) -> jax.Array:
    first, second = x @ cases.array(256, 256), x @ cases.array(256, 257)
    return first.sum(-1) - second.sum(-1)


def flattened(x: jax.Array) -> jax.Array:
    first, second = x @ cases.array(8, 6), x @ cases.array(8, 4)
    return first.reshape(-1, 4)[::-1] - second.reshape(-1, 4)[:1]


@pytest.mark.parametrize(
    ("function", "shape", "found"),
    [
        (cases.attention, (2, 17, 12), [("contract", 36), ("contract", 17), ("contract", 4), ("contract", 12)]),
        (alike, (1, 9, 7, 8), [("convolve", 17)]),
        (scaled_apart, (2, 5, 8), [("contract", 12)]),
        (lambda x: jax.nn.relu(x @ cases.array(8, 6)) * (x @ cases.array(8, 6)), (2, 5, 8), [("contract", 6), ("contract", 6)]),
        (lambda x: (x @ cases.array(8, 6), x @ cases.array(8, 5)), (2, 5, 8), [("contract", 6), ("contract", 5)]),
        (flattened, (2, 5, 8), [("contract", 6), ("contract", 4)]),
        (large, (2, 5, 256), [("contract", 256), ("contract", 257)]),
        (lambda x: (x[0] @ cases.array(8, 6))[::-1] * (x[1] @ cases.array(8, 6)), (2, 5, 8), [("contract", 6), ("contract", 6)]),
    ],
)
def test_small_products_of_one_value_that_go_on_alike_are_one_kernel(
    function: object, shape: tuple[int, ...], found: list[tuple[str, int]]
) -> None:
    assert products(function, *shape) == found


@pytest.mark.parametrize(
    ("shape", "last"), [((1, 17, 17, 24), "contract"), ((3, 9, 8, 24), "contract"), ((2, 4, 4, 24), "convolve")]
)
def test_a_gate_is_a_factor_of_weights_where_these_are_fewer_than_places(shape: tuple[int, ...], last: str) -> None:
    found = planned(canonical(flatten(cases.excited(20), cases.array(*shape))))
    steps = [kernel.anchor for kernel in found.kernels if kernel.anchor is not None]
    assert [step.primitive for step in steps] == ["convolve", "reduce", "convolve", "convolve", last]
    made = {step.output: step for step in found.flat.steps}
    read = [made[slot].primitive if slot in made else "constant" for slot in steps[-1].inputs]
    assert read == (["reshape", "mul"] if last == "contract" else ["mul", "constant"])


@pytest.mark.parametrize(
    ("primitive", "function", "reason"),
    [
        ("scan", lambda x: jax.lax.scan(lambda carry, _: (carry * 2 + 1, None), x, length=9999)[0], "9999 rounds of 2 steps"),
        ("while", lambda x: jax.lax.while_loop(lambda v: v.sum() < 9, lambda v: v + 1, x), "depends on the data"),
        ("lgamma", jax.scipy.special.gammaln, "special function"),
        ("fft", lambda x: jnp.fft.rfft(x).real, "complex"),
        ("random_seed", lambda x: x + jax.random.uniform(jax.random.key(x[0, 0, 0, 0].astype(int))), "random"),
        ("cholesky", lambda x: jnp.linalg.cholesky(x), "matrices"),
        ("convert_element_type", lambda x: x.astype(jnp.bfloat16), "on bfloat16"),
        ("conv_general_dilated", lambda x: jax.lax.conv(x, x, (1, 1), "SAME"), "depends on the data"),
    ],
)
def test_what_has_no_lowering_is_named_with_its_reason_its_node_and_its_line(
    primitive: str, function: Callable[..., object], reason: str
) -> None:
    def node(x: jax.Array) -> object:
        with jax.named_scope("head"):
            return function(x)

    with pytest.raises(NotLowerable, match=rf"{primitive}: .*{reason}.*node head.*test_program.py:\d+") as raised:
        canonical(flatten(node, np.ones((2, 2, 2, 2), np.float32)))
    assert raised.value.primitive == primitive


def test_a_product_with_a_repeated_zero_is_no_kernel() -> None:
    flat = canonical(flatten(lambda x: jnp.zeros((3, 4)) @ cases.array(4, 5) + x, np.ones((3, 5), np.float32)))
    assert [step.primitive for step in flat.steps] == ["broadcast_in_dim", "add"]


def test_a_node_of_a_graph_is_named() -> None:
    net = Net((4, 4, 1))
    net(Gelu(), net.input, name="curve")
    graph = net.graph("curve")
    flat = flatten(functools.partial(graph.apply, graph.init(jax.random.key(0))), np.ones((1, 4, 4, 1), np.float32))
    assert {step.origin for step in flat.steps} == {"curve"}


def test_the_room_loads_no_tvm() -> None:
    code = (
        "import sys, alphanas, alphanas.hardware, alphanas.hardware.tasks, alphanas.hardware.backends, alphanas.hardware.timing;"
        "sys.exit('tvm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
