"""Control flow and calls: what the walker gives for them equals what it gives for the same program written out."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import properties
from properties import CapacityRequirement
from properties.display import table_text

X = jnp.ones((3, 4))
W = jnp.ones((4, 4))


def layer(w: Any, x: Any) -> Any:
    return jax.nn.relu(x @ w)


def twice(w: Any, x: Any) -> Any:
    return layer(w, layer(w, x))


@jax.custom_jvp
def with_jvp(w: Any, x: Any) -> Any:
    return twice(w, x)


@jax.custom_vjp
def with_vjp(w: Any, x: Any) -> Any:
    return twice(w, x)


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), with_jvp(*primals)))
with_vjp.defvjp(lambda w, x: (with_vjp(w, x), None), lambda _, g: (g, g))

SAME: dict[str, Callable[..., Any]] = {
    "jit": jax.jit(twice),
    "nested jit": jax.jit(lambda w, x: jax.jit(layer)(w, jax.jit(layer)(w, x))),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
    "checkpoint": jax.checkpoint(twice),
    "vmap": lambda w, x: jax.vmap(lambda row: twice(w, row))(x),
    "cond of equal branches": lambda w, x: lax.cond(w[0, 0] > 0, twice, twice, w, x),
    "scan": lambda w, x: lax.scan(lambda v, _: (layer(w, v), None), x, None, length=2)[0],
    "fori_loop": lambda w, x: lax.fori_loop(0, 2, lambda _, v: layer(w, v), x),
    "linearized": lambda w, x: jax.linearize(lambda v: twice(w, v), x)[0],
}


@pytest.mark.parametrize("name", SAME)
def test_calls_and_loops_mean_what_they_compute(name: str) -> None:
    plain = properties.infer(twice, X, params=W)
    found = properties.infer(SAME[name], X, params=W)
    assert found.relations == plain.relations
    assert (found.capacity.macs, found.capacity.params) == (plain.capacity.macs, plain.capacity.params)
    assert not found.unknown


def test_a_conditional_joins_its_branches_and_costs_the_dearer() -> None:
    def program(w: Any, x: Any) -> Any:
        return lax.cond(w[0, 0] > 0, lambda v: v[:, ::-1], lambda v: twice(w, v), x)

    inference = properties.infer(program, X, params=W)
    assert inference.depth[0, 0] == 4
    assert inference.capacity.macs == 2 * 3 * 4 * 4


def test_what_decides_reaches_every_result() -> None:
    inference = properties.infer(lambda x: lax.cond(x[0, 0] > 0, lambda v: v, lambda v: 2 * v, x), X)
    assert inference.mixing[0, 0].depends_on((2, 3))[0].tolist() == [True, False, True]
    assert inference.depth[0, 0] == 2  # an element is cut out, a linear step, and compared
    halting = properties.infer(lambda x: lax.while_loop(lambda v: v.sum() < 9, lambda v: 2 * v, x), X)
    assert halting.mixing[0, 0].matrix.tolist() == [[3, 3], [3, 3]]


def test_a_loop_of_unknown_length_has_lower_bounds_only_and_says_so() -> None:
    def program(w: Any, x: Any) -> Any:
        looped = lax.while_loop(lambda s: s[0] < w[0, 0], lambda s: (s[0] + 1, layer(w, s[1])), (0.0, x))[1]
        return looped @ w

    inference = properties.infer(program, X, params=W)
    capacity = inference.capacity
    assert not capacity.bounded
    # one product after the loop; none or any number of them in it, of which the figure counts one
    assert capacity.interval("macs") == (3 * 4 * 4, math.inf)
    assert capacity.macs == 2 * 3 * 4 * 4
    assert capacity.interval("params") == (16, 16)
    assert capacity.interval("peak_bytes")[1] == capacity.peak_bytes  # no number of trips needs more memory
    assert capacity.to_json()["macs"] == [48, None] and capacity.to_json()["params"] == 16
    assert "at least 48" in inference._repr_html_() and "at least 48" in table_text({"loop": inference})
    asked = CapacityRequirement.between
    assert asked(macs=(48, None)).met(inference) and asked(params=(0, 16), peak_bytes=(0, capacity.peak_bytes)).met(inference)
    assert asked(macs=(0, 10**30)).distance(inference) == 1
    assert asked(macs=(96, None)).distance(inference) == 0.5
    assert inference.depth[0, 0] == properties.UNBOUNDED
    assert inference.mixing[0, 0].matrix.tolist() == [[1, 0], [3, 3]]


def test_a_conditional_costs_an_interval() -> None:
    def program(w: Any, x: Any) -> Any:
        return lax.cond(x[0, 0] > 0, lambda v: v, lambda v: twice(w, v), x) @ w

    inference = properties.infer(program, X, params=W)
    assert inference.capacity.interval("macs") == (3 * 4 * 4, 3 * 3 * 4 * 4)
    assert inference.capacity.to_json()["macs"] == [48, 144]
    assert "48 … 144" in inference._repr_html_()
    assert not CapacityRequirement.between(macs=(0, 100)).met(inference)
    assert not CapacityRequirement.between(macs=(100, 200)).met(inference)
    in_a_loop = properties.infer(lambda w, x: lax.fori_loop(0, 5, lambda _, v: program(w, v), x), X, params=W)
    assert in_a_loop.capacity.interval("macs") == (5 * 48, 5 * 144)


def test_a_figure_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="no figure parameters; it has params, state, macs"):
        CapacityRequirement.between(parameters=(0, 5))
    with pytest.raises(ValueError, match="no figure of the capacity is called 'flops'"):
        properties.Capacity().interval("flops")


def test_a_scan_counts_every_trip() -> None:
    def program(w: Any, x: Any) -> Any:
        return lax.scan(lambda h, row: (jnp.tanh(row @ w + h @ w), h), jnp.zeros(4), x)

    inference = properties.infer(program, jnp.ones((50, 4)), params=W)
    assert inference.capacity.macs == 50 * 2 * 16
    assert inference.depth[0, 0] == 2 * 50
    assert inference.mixing[0, 0].matrix.tolist() == [[3], [3]]


def test_gradients_are_programs_like_any_other() -> None:
    inference = properties.infer(jax.grad(lambda w, x: twice(w, x).sum(), argnums=1), X, params=W)
    assert not inference.unknown
    assert inference.mixing[0, 0].matrix.tolist() == [[1, 0], [3, 3]]


def test_several_inputs_and_outputs_are_kept_apart() -> None:
    inference = properties.infer(lambda a, b: (a @ b, b.sum(), a.T), jnp.ones((2, 3)), jnp.ones((3, 5)))
    dependent = [[inference.relation("depth", i, o) is not None for o in range(3)] for i in range(2)]
    assert dependent == [[True, False, True], [True, True, False]]
    assert inference.mixing[1, 0].matrix.tolist() == [[3, 3], [0, 1]]
    assert inference.mixing[0, 1].matrix.tolist() == [[], []]
    assert inference.shape == (
        properties.Shape((2, 5), "float32"), properties.Shape((), "float32"), properties.Shape((3, 2), "float32"),
    )  # fmt: skip


def test_parameters_and_constants_are_no_data() -> None:
    inference = properties.infer(lambda p, x: (p["w"] @ p["w"] + np.eye(4), x), X, params={"w": W})
    assert inference.relation("mixing", 0, 0) is None
    assert inference.depth[0, 0] == 0
    assert not inference.mixing[0, 0].matrix.any()
    assert (inference.capacity.macs, inference.capacity.params) == (0, 16)


def test_peak_memory_is_that_of_the_order_of_execution() -> None:
    """Three arrays of 16 bytes at most: both branches of the sum and the input, which the second still needs."""

    def program(x: Any) -> Any:
        a = jnp.sin(x)
        return jnp.cos(x) + a

    assert properties.infer(program, jnp.ones(4)).capacity.peak_bytes == 3 * 16
    assert properties.infer(lambda x: jnp.sin(jnp.cos(jnp.sin(x))), jnp.ones(4)).capacity.peak_bytes == 2 * 16
    assert properties.infer(lambda x: x.reshape(2, 2), jnp.ones(4)).capacity.peak_bytes == 16


def test_importing_loads_jax_and_numpy_only() -> None:
    code = (
        "import jax, sys; before = set(sys.modules); import properties;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names);"
        "assert new <= {'properties', 'jax', 'jaxlib', 'numpy'}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_symbolic_sizes_are_an_error_that_says_what_to_do() -> None:
    x = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 4"), jnp.float32)
    with pytest.raises(ValueError, match=r"input 0 is float32\[b,4\]: give integer sizes, or ask properties.symbolic"):
        properties.infer(jnp.sin, x)


def test_what_does_not_trace_is_jax_s_own_error_with_its_line_and_what_to_do() -> None:
    def misfit(x: Any) -> Any:
        return x @ jnp.ones((9, 9))

    def deciding(x: Any) -> Any:
        return x if x.sum() > 0 else -x

    unsized = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 4"), jnp.float32)
    cases: list[tuple[Callable[..., Any], Any, type[Exception], str]] = [
        (misfit, X, TypeError, "give arrays"),
        (deciding, X, jax.errors.TracerBoolConversionError, "jax.lax.cond"),
        (
            lambda x: x.reshape(x.shape[0] // 2, 2, -1),
            unsized,
            jax.errors.InconclusiveDimensionOperation,
            "ask properties.symbolic",
        ),
    ]
    for function, x, kind, remedy in cases:
        with pytest.raises(kind) as caught:
            properties.infer(function, x)
        line = function.__code__.co_firstlineno
        (note,) = [note for note in caught.value.__notes__ if "while tracing" in note]
        assert f"test_walker.py:{line + (function in (misfit, deciding))} " in note and remedy in note
    with pytest.raises(ValueError, match="params=9: the program has 1 input"):
        properties.analyze(jax.make_jaxpr(jnp.sin)(X), params=9)
