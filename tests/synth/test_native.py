"""Convolutions and attention in machine code of our own: the same as XLA's at every edge of their blocks; never a failure."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synth import Value, native
from synth.ops import Attention, Conv, DepthwiseConv, MultiHeadAttention
from synth.ops.attention import FORMULATIONS
from synth.ops.convolution import _Convolution
from synth.ops.formulations import FORWARD, LAYOUTS, TO_INPUT, TO_KERNEL, Plan, using

# More pictures than go together, channels and features on both sides of a vector and of a block, positions that fill no block.
CASES: dict[str, tuple[_Convolution, tuple[int, ...]]] = {
    "a block of features and some": (Conv(features=20), (3, 6, 5, 9)),
    "two blocks and a vector": (Conv(features=40), (37, 4, 5, 3)),
    "one feature": (Conv(features=1), (2, 5, 5, 17)),
    "many pictures of one position": (Conv(features=8), (301, 1, 1, 5)),
    "large pictures": (Conv(features=16, stride=2), (3, 61, 67, 8)),
    "1×1": (Conv(features=24, kernel=1), (5, 7, 6, 33)),
    "1×1, strided": (Conv(features=24, kernel=1, stride=2), (5, 7, 6, 33)),
    "strided unevenly, dilated": (Conv(features=7, kernel=(3, 2), stride=(2, 3), dilation=(2, 1)), (3, 13, 11, 6)),
    "window shorter than the stride": (Conv(features=7, kernel=2, stride=3, padding="VALID"), (3, 11, 12, 6)),
    "input that no window reaches": (Conv(features=3, padding=((-2, -1), (-1, -3))), (3, 11, 12, 4)),
    "negative and wide padding": (Conv(features=5, padding=((-1, 2), (4, -1)), stride=2), (3, 9, 8, 4)),
    "groups": (Conv(features=48, groups=2), (5, 8, 8, 20)),
    "groups of one channel and two features": (Conv(features=12, groups=6), (5, 4, 4, 6)),
    "one axis": (Conv(features=18, kernel=5, stride=2), (9, 31, 6)),
    "depthwise": (DepthwiseConv(), (37, 7, 9, 20)),
    "depthwise, 5×5, strided, dilated": (DepthwiseConv(kernel=5, stride=2, dilation=2), (3, 17, 13, 8)),
    "depthwise, 7×7, one vector": (DepthwiseConv(kernel=7, padding=((-1, 5), (2, 0))), (3, 9, 13, 3)),
    "depthwise, one axis": (DepthwiseConv(kernel=4, stride=3), (9, 31, 6)),
}

needs_a_compiler = pytest.mark.skipif(not native.available(), reason="there is no C compiler here")


@needs_a_compiler
@pytest.mark.parametrize("name", CASES)
def test_native_convolutions_are_those_of_xla(name: str) -> None:
    op, shape = CASES[name]
    question = op.question(shape, dtype="float32")
    rng = np.random.default_rng(0)
    x, kernel, slope = (jnp.asarray(rng.standard_normal(size), jnp.float32) for size in (shape, question.kernel, question.output))

    def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            question.stride,
            question.padding,
            rhs_dilation=question.dilation,
            dimension_numbers=LAYOUTS[len(question.window)],
            feature_group_count=question.groups,
        )

    wanted, back = jax.vjp(convolved, x, kernel)
    to_input, to_kernel = back(slope)
    for table, given, want in (
        (FORWARD, (x, kernel), wanted),
        (TO_INPUT, (slope, kernel), to_input),
        (TO_KERNEL, (x, slope), to_kernel),
    ):
        got = jax.jit(lambda left, right, table=table: table["direct"](question, left, right))(*given)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max() or 1.0))


# (batch, queries, keys, heads, features, outputs): on both sides of a block of queries, of rows of keys and of vectors.
ATTENTIONS = {
    "one of each": (1, 1, 1, 1, 1, 1),
    "a few": (2, 5, 5, 1, 3, 4),
    "several blocks and some": (2, 37, 37, 2, 8, 8),
    "more keys than queries, unlike values": (3, 16, 29, 2, 20, 5),
    "more queries than keys": (1, 70, 3, 3, 2, 33),
    "whole blocks": (2, 64, 64, 4, 16, 16),
    "wide heads": (1, 33, 33, 1, 72, 72),
}


@needs_a_compiler
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_native_attention_is_that_of_xla(name: str, causal: bool) -> None:
    batch, queries, keys, heads, features, outputs = ATTENTIONS[name]
    if causal and queries != keys:
        return
    rng = np.random.default_rng(0)
    sides = ((queries, features), (keys, features), (keys, outputs), (queries, outputs))
    *given, slope = (jnp.asarray(3 * rng.standard_normal((batch, count, heads, size)), jnp.float32) for count, size in sides)
    results = {}
    for form, attended in FORMULATIONS.items():
        out, back = jax.vjp(lambda query, key, value, attended=attended: attended(query, key, value, causal), *given)
        results[form] = (out, *back(slope))
    for got, want in zip(results["direct"], results["native"], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5 * float(np.abs(want).max() or 1.0))


@needs_a_compiler
def test_native_attention_of_far_apart_scores_and_of_what_is_not_finite() -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((3, 20, 2, 8)).astype(np.float32) for _ in range(3))
    query[0] *= 1e4
    clean, wanted = (FORMULATIONS[form](query, key, value, False) for form in ("direct", "native"))
    np.testing.assert_allclose(clean, wanted, rtol=1e-4, atol=1e-5)
    key[1, 4, 1] = np.nan
    found = np.asarray(FORMULATIONS["direct"](query, key, value, False))
    assert np.isnan(found[1, :, 1]).all()
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(np.asarray(clean), 1, axis=0))
    np.testing.assert_array_equal(found[1, :, 0], np.asarray(clean)[1, :, 0])


@needs_a_compiler
@pytest.mark.parametrize("op", [MultiHeadAttention(heads=2, causal=True), Attention(heads=4)], ids=str)
def test_attention_trains_by_its_plan(op: MultiHeadAttention | Attention) -> None:
    rng, shape = np.random.default_rng(0), (2, 24, 16)
    inputs = [jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(op.arity)]
    values = tuple(Value((None, *shape[1:])) for _ in inputs)
    weights = {name: jnp.asarray(rng.standard_normal(weight.shape), jnp.float32) for name, weight in op.weights(*values).items()}
    key = op.question(*[x.shape for x in inputs], dtype="float32").key

    def trained(plan: str) -> tuple[str, jax.Array]:
        with using({key: Plan(plan, plan, plan)}):
            text = str(jax.make_jaxpr(lambda weights: op.train(weights, *inputs, key=jax.random.key(0))[0])(weights))
            return text, op.train(weights, *inputs, key=jax.random.key(0))[0]

    (direct, found), (native_, wanted) = trained("direct"), trained("native")
    assert "ffi_call" in direct and "ffi_call" not in native_
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(wanted, op.apply(weights, *inputs))


@needs_a_compiler
def test_a_picture_that_is_not_finite_spoils_no_other() -> None:
    question = Conv(features=5, kernel=3).question((40, 3, 3, 7), dtype="float32")
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal(question.input).astype(np.float32), rng.standard_normal(question.kernel).astype(np.float32)
    clean = np.asarray(FORWARD["direct"](question, x, kernel))
    x[3] = np.nan
    found = np.asarray(FORWARD["direct"](question, x, kernel))
    assert np.isnan(found[3]).all()
    np.testing.assert_array_equal(np.delete(found, 3, 0), np.delete(clean, 3, 0))


def test_without_a_compiler_or_with_one_that_fails_there_is_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALPHANAS_CACHE", str(tmp_path))
    for compiler in ("", "no-such-compiler", "false"):
        monkeypatch.setenv("CC", compiler)
        assert not native.available.__wrapped__()
    monkeypatch.setattr(native, "available", lambda: False)
    with pytest.raises(RuntimeError, match="available"):
        native.product("output", (1,), np.zeros(17, np.int64), jnp.zeros(1), jnp.zeros(1))


@needs_a_compiler
def test_the_library_is_compiled_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded: list[Path] = []

    def load(path: Path) -> bool:
        assert path.exists()
        loaded.append(path)
        return True

    monkeypatch.setattr(native, "_loaded", load)
    monkeypatch.setenv("ALPHANAS_CACHE", str(tmp_path))
    assert native.available.__wrapped__() and native.available.__wrapped__()
    assert loaded[0] == loaded[1] and loaded[0].parent == tmp_path / "native"
    assert list((tmp_path / "native").iterdir()) == [loaded[0]]
    assert loaded[0].parent.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("ALPHANAS_CACHE", "off")
    assert native.available.__wrapped__() and not loaded[2].exists()


@needs_a_compiler
def test_a_process_that_forgets_what_it_found_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALPHANAS_CACHE", str(tmp_path))
    for _ in range(2):  # a library of this folder, which XLA would refuse beside the first
        native.available.cache_clear()
        assert native.available()
    test_native_convolutions_are_those_of_xla("groups")
