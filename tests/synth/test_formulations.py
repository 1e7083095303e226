"""Every formulation of a convolution computes the same: output and both slopes, against XLA's own grouped convolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synth import native
from synth.op import Value
from synth.ops import Conv, ConvTranspose, DepthwiseConv, formulations
from synth.ops.formulations import FORWARD, TO_INPUT, TO_KERNEL, Plan, Question, fitting, fixed, has_choice, planned, using

CASES = {
    "grouped": (Conv(features=12, groups=4), (2, 7, 6, 8)),
    "grouped, strided": (Conv(features=8, groups=2, kernel=5, stride=2), (2, 9, 8, 4)),
    "grouped, 1×1": (Conv(features=8, groups=4, kernel=1), (3, 5, 4, 8)),
    "1×1": (Conv(features=3, kernel=1, stride=2), (3, 5, 4, 8)),
    "grouped, dilated": (Conv(features=6, groups=3, dilation=2, padding="VALID"), (2, 9, 8, 6)),
    "grouped, one axis": (Conv(features=6, groups=2), (2, 9, 4)),
    "grouped, three axes": (Conv(features=4, groups=2), (2, 4, 5, 3, 4)),
    "depthwise": (DepthwiseConv(), (2, 7, 6, 5)),
    "depthwise, 5×5, strided": (DepthwiseConv(kernel=5, stride=2), (2, 9, 8, 3)),
    "depthwise, even, strided by 3": (DepthwiseConv(kernel=(2, 4), stride=(3, 2), padding="VALID"), (2, 9, 8, 3)),
    "depthwise, multiplied": (DepthwiseConv(multiplier=3), (2, 5, 6, 4)),
    "depthwise, dilated, own padding": (DepthwiseConv(dilation=2, stride=2, padding=((3, 0), (1, 2))), (2, 8, 9, 3)),
    "depthwise, wider padding than window": (DepthwiseConv(kernel=1, padding=((2, 2), (0, 1))), (2, 4, 5, 3)),
    "depthwise, one axis": (DepthwiseConv(kernel=7), (2, 11, 3)),
    "dense": (Conv(features=5), (2, 7, 6, 4)),
    "dense, 5×5, strided": (Conv(features=3, kernel=5, stride=2), (2, 9, 8, 4)),
    "dense, strided unevenly": (Conv(features=3, kernel=(5, 2), stride=(3, 2), padding=((3, 0), (1, 4))), (2, 11, 9, 2)),
    "dense, window shorter than the stride": (Conv(features=3, kernel=(2, 6), stride=(3, 1), padding="VALID"), (2, 11, 9, 2)),
    "dense, strided, one axis": (Conv(features=3, kernel=10, stride=4), (2, 19, 2)),
    "dense, strided, three axes": (Conv(features=2, stride=2), (2, 4, 5, 3, 2)),
    "dense, own padding": (Conv(features=3, kernel=(3, 2), dilation=2, padding=((3, 0), (1, 4))), (2, 8, 9, 2)),
    "dense, unpadded": (Conv(features=3, kernel=(2, 4), padding="VALID"), (2, 5, 9, 2)),
    "dense, one axis": (Conv(features=3, kernel=4), (3, 9, 2)),
    "dense, three axes": (Conv(features=3), (2, 4, 5, 6, 2)),
}


def asked(name: str) -> tuple[Question, jax.Array, jax.Array, jax.Array]:
    """(question, input, kernel, a slope of the output)."""
    op, shape = CASES[name]
    question = op.question(shape, dtype="float32")
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.standard_normal(size), jnp.float32) for size in (shape, question.kernel, question.output)]
    return question, arrays[0], arrays[1], arrays[2]


def oracle(question: Question) -> Callable[..., Any]:
    return lambda x, kernel: jax.lax.conv_general_dilated(
        x,
        kernel,
        question.stride,
        question.padding,
        rhs_dilation=question.dilation,
        dimension_numbers=formulations.LAYOUTS[len(question.window)],
        feature_group_count=question.groups,
    )


QUICK = {"dense, own padding", "grouped, strided", "1×1", "depthwise, dilated, own padding", "depthwise, multiplied"}
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_all_formulations_agree_with_xla(name: str) -> None:
    question, x, kernel, slope = asked(name)
    tables = ((FORWARD, (x, kernel)), (TO_INPUT, (slope, kernel)), (TO_KERNEL, (x, slope)))

    @jax.jit
    def every() -> Any:
        out, back = jax.vjp(oracle(question), x, kernel)
        return [{form: table[form](question, *given) for form in fitting(question, table)} for table, given in tables], (
            out,
            *back(slope),
        )

    found, wanted = every()
    assert wanted[0].shape == question.output
    for forms, want in zip(found, wanted, strict=True):
        assert forms
        for form, got in forms.items():
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=form)


@pytest.mark.parametrize("name", NAMES)
def test_training_computes_and_differentiates_what_inference_does(name: str) -> None:
    op, _ = CASES[name]
    question, x, kernel, slope = asked(name)
    key = jax.random.key(0)

    def both(apply: Callable[..., Any]) -> Any:
        def run(x: jax.Array, kernel: jax.Array) -> Any:
            out, back = jax.vjp(apply, x, kernel)
            return out, *back(slope)

        return jax.jit(run)(x, kernel)

    trained = both(lambda x, kernel: op.train({"kernel": kernel}, x, key=key)[0])
    for got, want in zip(trained, both(lambda x, kernel: op.apply({"kernel": kernel}, x)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    plan, tables = fixed(question), (FORWARD, TO_INPUT, TO_KERNEL)
    for form, table in zip((plan.forward, plan.to_input, plan.to_kernel), tables, strict=True):
        assert form in fitting(question, table)


def test_a_plan_decides_what_is_traced_and_only_inside() -> None:
    question, x, kernel, _ = asked("grouped")
    op, _ = CASES["grouped"]

    def primitives() -> str:
        return str(jax.make_jaxpr(lambda x, kernel: op.train({"kernel": kernel}, x, key=jax.random.key(0))[0])(x, kernel))

    plan = Plan("native", "split", "products")
    with using({question.key: plan}):
        assert planned(question) == plan
        inside = primitives()
    assert "feature_group_count=4" in inside and "feature_group_count=4" not in primitives()
    assert planned(question) == fixed(question)


def test_what_xla_does_well_is_left_to_it_and_the_batch_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    dense, large = (Conv(features=64).question((1, side, side, 64), dtype="float32") for side in (8, 64))
    assert fitting(dense, FORWARD) == fitting(dense, TO_INPUT) == ("native",) == fitting(large, TO_KERNEL)
    assert fitting(dense, TO_KERNEL) == ("crossed",)
    assert not has_choice(dense) and has_choice(Conv(features=64, kernel=1).question((1, 8, 8, 64), dtype="float32"))
    one, many = (DepthwiseConv().question((batch, 8, 8, 4), dtype="float32") for batch in (1, 64))
    assert one.key == many.key and fixed(one) == fixed(many)
    assert many.macs == 64 * one.macs == 64 * 8 * 8 * 4 * 9


def test_native_code_is_tried_where_it_is_and_never_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def forms(question: Question) -> tuple[tuple[str, ...], ...]:
        return tuple(fitting(question, table) for table in (FORWARD, TO_INPUT, TO_KERNEL))

    questions = [asked(name)[0] for name in CASES]
    monkeypatch.setattr(native, "available", lambda: False)
    without = [(fixed(question), forms(question)) for question in questions]
    monkeypatch.setattr(native, "available", lambda: True)
    for question, (rule, others) in zip(questions, without, strict=True):
        direct = ("direct",) if len(question.window) <= 2 else ()
        assert fixed(question) == rule and forms(question) == tuple((*names, *direct) for names in others)
        half = replace(question, dtype="bfloat16")
        assert all("direct" not in names for names in forms(half))


def test_a_plan_of_another_machine_is_not_followed_where_there_is_no_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    question, *_ = asked("dense")
    plan = Plan("native", "direct", "direct")
    with using({question.key: plan}):
        monkeypatch.setattr(native, "available", lambda: True)
        assert planned(question) == plan
        monkeypatch.setattr(native, "available", lambda: False)
        assert planned(question) == fixed(question)


TRANSPOSED = {
    "one axis": (ConvTranspose(features=3), (2, 5, 4)),
    "two axes": (ConvTranspose(features=3), (2, 3, 4, 2)),
    "three axes": (ConvTranspose(features=2, use_bias=False), (2, 2, 3, 2, 3)),
    "unlike sides": (ConvTranspose(features=3, kernel=(3, 1), stride=(3, 1), padding="VALID"), (2, 3, 4, 2)),
    "windows that overlap": (ConvTranspose(features=3, kernel=3), (2, 3, 4, 2)),
    "own padding": (ConvTranspose(features=3, padding=((1, 1), (0, 2))), (2, 3, 4, 2)),
    "dilated": (ConvTranspose(features=3, dilation=2), (2, 3, 4, 2)),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_convolution_trains_as_it_infers(name: str) -> None:
    op, shape = TRANSPOSED[name]
    rng = np.random.default_rng(0)
    owned = op.weights(Value((None, *shape[1:])))
    weights = {key: jnp.asarray(rng.standard_normal(weight.shape), jnp.float32) for key, weight in owned.items()}
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    wanted, back = jax.vjp(op.apply, weights, x)
    found, mine = jax.vjp(lambda weights, x: op.train(weights, x, key=jax.random.key(0))[0], weights, x)
    slope = jnp.asarray(rng.standard_normal(wanted.shape), jnp.float32)
    for got, want in zip(jax.tree.leaves((found, mine(slope))), jax.tree.leaves((wanted, back(slope))), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
