"""Formulas of ops against traces at given sizes, and NumPy's runs of programs against JAX's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from properties import Mixing, idioms, jaxpr
from synth import Value
from synth.automaton import Automaton, packed, unpacked
from synth.effect import counted_macs, params, summary
from synth.evaluating import evaluated
from synth.formulas import Formula, Kind, figures, formulas
from synth.op import Op, ShapeMismatch, alternatives, output_value
from synth.ops import OPS, Conv
from synth.tracing import trace, traced

OPS_OF_ONE_INPUT = [op_type for op_type in OPS.values() if op_type.arity == 1 and op_type.taste > 0]
TYPES = [
    Value((None, 7, 4, 12)),
    Value((None, 1, 1, 8)),
    Value((None, 1, 3, 3)),
    Value((None, 9, 1)),
    Value((None, 17, 24)),
    Value((None, 30)),
    Value((None, 1)),
    Value((None, 3, 4, 5, 8)),
]
"""With sizes that are odd, one, and no multiples of anything: where a formula must be right or not apply."""


@pytest.mark.parametrize("value", TYPES, ids=str)
def test_a_formula_says_what_a_trace_at_these_sizes_says(value: Value) -> None:
    fitting = [op for op_type in OPS_OF_ONE_INPUT for op in alternatives(op_type, (24, 5, 1)) if _fits(op, value)]
    formulas([kind for op in fitting if (kind := Kind.of(op, value))])
    told = {op: found for op in fitting if (found := figures(op, value))}
    trace(list(told), (value,))
    for op, found in told.items():
        assert found == (output_value(op, (value,)), params(op, (value,)), counted_macs(op, (value,))), op
    assert len(told) > 0.9 * len(fitting)


@pytest.mark.parametrize("value", TYPES, ids=str)
def test_a_formula_says_of_many_sizes_what_it_says_of_each(value: Value) -> None:
    sizes = np.array([1, 2, 5, 12, 24, 64])
    ops = [op for op_type in OPS_OF_ONE_INPUT for op in alternatives(op_type, (1,)) if _fits(op, value)]
    kinds = [kind for op in ops if (kind := Kind.of(op, value)) is not None]
    for formula in filter(None, map(formulas(kinds).get, kinds)):
        found, says = formula.of_sizes(value, sizes)
        each = [formula.at(value, int(size)) for size in sizes]
        assert says.tolist() == [one is not None and min(one[:-2], default=1) > 0 for one in each]
        assert all(one == tuple(row) for one, row, said in zip(each, found.tolist(), says.tolist(), strict=True) if said)


def _fits(op: Op, value: Value) -> bool:
    try:
        op.check(value)
    except ShapeMismatch:
        return False
    return True


def test_a_formula_keeps_to_the_multiples_that_its_op_wants() -> None:
    grouped = Conv(features=0, groups=4)
    kind = Kind(grouped, 4, "float32")
    found = formulas([kind])[kind]
    assert found is not None and found.channels % 4 == 0 and found.size % 4 == 0
    assert found.at(Value((None, 8, 8, 6)), 8) is None and found.at(Value((None, 8, 8, 8)), 6) is None


def test_what_is_no_formula_is_not_run() -> None:
    for text in ("__import__", "k.real", "k if n else 1", "'k'", "[k]"):
        with pytest.raises(ValueError, match="no formula"):
            Formula(1, 1, "float32", ("k", "n"), (text,)).at(Value((None, 3)), 1)


ACTIVATIONS = [op_type() for op_type in OPS_OF_ONE_INPUT if op_type.__module__.endswith("activation")]


@pytest.mark.parametrize("op", ACTIVATIONS, ids=str)
def test_numpy_runs_elementwise_programs_as_jax_does(op: Op) -> None:
    value = Value((None, 5))
    numbers = np.random.default_rng(0).standard_normal(10) * 3
    found = evaluated(traced(op, (value,)).program, numbers)
    if op.weights(value) or not _is_elementwise(op):
        assert found is None
        return
    assert found is not None
    np.testing.assert_allclose(found, op.apply({}, jnp.asarray(numbers, "float32").reshape(2, 5)).reshape(-1), rtol=1e-4, atol=1e-6)


def _is_elementwise(op: Op) -> bool:
    jacobian = jax.jacobian(lambda x: op.apply({}, x[None])[0])(jnp.linspace(0.1, 2.0, 5))
    return bool(jnp.all(jacobian == jnp.diag(jnp.diag(jacobian))))


@pytest.mark.parametrize("place", range(len(idioms.INLINED)))
def test_an_idiom_has_the_primitives_by_which_it_is_looked_for(place: int) -> None:
    name, function, weights, needed = idioms.INLINED[place]
    shape = (2, 5, 4) if name == "group_norm" else (2, 4)
    for dtype in (jnp.float32, jnp.bfloat16):
        arguments = [jax.ShapeDtypeStruct(shape, dtype), *[jax.ShapeDtypeStruct((4,), dtype)] * weights]
        primitives = {equation.primitive for equation in jaxpr.program(jaxpr.trace(function, *arguments)[0]).equations}
        assert len(primitives) == 1 or needed <= primitives, name
        # Only a pattern with a cast differs at half precision, so that others need not be looked for twice.
        assert len(primitives) == 1 or dtype == jnp.float32 or idioms.CAST in primitives or _same_at_both(function, shape, weights)


def _same_at_both(function: idioms.Function, shape: tuple[int, ...], weights: int) -> bool:
    def primitives(dtype: object) -> list[str]:
        arguments = [jax.ShapeDtypeStruct(shape, dtype), *[jax.ShapeDtypeStruct((4,), dtype)] * weights]
        return [equation.primitive for equation in jaxpr.program(jaxpr.trace(function, *arguments)[0]).equations]

    return primitives(jnp.float32) == primitives(jnp.bfloat16)


def test_an_automaton_survives_packing() -> None:
    letters = (np.array([0, 0, 1]), np.array([0]))
    table, flags = np.array([1, -1, 0]), np.array([False, True])
    found = Automaton.of(3, letters, np.array([0, 1]), np.array([0, 1]), table, flags)
    again = unpacked(packed(found))
    for name in ("values", "layers", "starts", "next", "accepts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    assert again.length == 3 and [each.tolist() for each in again.letters] == [[0, 0, 1], [0]]


def test_steps_that_look_alike_to_a_row_do_the_same_to_it() -> None:
    value, same = Value((None, 6, 5, 8)), 0
    ops = [op for op_type in OPS_OF_ONE_INPUT for op in alternatives(op_type, (8,)) if _fits(op, value)]
    steps = {found.relation("mixing", 0, 0) for op in ops if (found := summary(op, (value,))).shape[0].shape == (2, 6, 5, 8)}
    rows = [Mixing.of((whole.input[axis],), whole.output, (whole.axes[axis],)) for whole in steps for axis in range(4)]
    for row in rows:
        by_view: dict[object, Mixing | None] = {}
        for step in steps:
            after = row.then(step)
            same += step.seen_along(row.reads) in by_view
            assert by_view.setdefault(step.seen_along(row.reads), after) == after
    assert same > len(rows)
