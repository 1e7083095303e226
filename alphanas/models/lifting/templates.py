"""Ops recognised by their own jaxpr: a piece of a program that is step by step an op's trace is that op, however it was written.

A template is an op (or another spelling of one) traced as models are; it matches a value if its steps, read backwards from their
output, are the program's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alphanas.models.lifting.flat import Constant, Flat, Ref, Step, flat_of
from properties.jaxpr import trace
from synth.op import Op
from synth.ops.activation import Gelu, HardSigmoid, HardSilu, Relu, Relu6, Sigmoid, Silu, Softmax, SquaredRelu

Spelling = tuple[Op, Callable[[jax.Array], jax.Array]]

_COMMUTATIVE = frozenset({"add", "mul", "max", "min"})
_TRANSPARENT = frozenset({"stop_gradient", "copy"})


def _own(op: Op) -> Spelling:
    return op, lambda x: op.apply({}, x)


SPELLINGS: tuple[Spelling, ...] = (
    _own(SquaredRelu()),
    (SquaredRelu(), lambda x: jax.nn.relu(x) ** 2),
    (SquaredRelu(), lambda x: jax.nn.relu(x) * jax.nn.relu(x)),
    _own(HardSilu()),
    _own(HardSigmoid()),
    _own(Relu6()),
    _own(Silu()),
    _own(Gelu()),
    _own(Gelu(approximate=True)),
    (Gelu(), lambda x: x * 0.5 * (1.0 + jax.lax.erf(x / np.sqrt(2.0).astype(np.float32)))),
    (Gelu(), lambda x: 0.5 * x * (1.0 + jax.lax.erf(x / np.sqrt(2.0).astype(np.float32)))),
    (Gelu(approximate=True), lambda x: 0.5 * x * (1 + jnp.tanh(np.sqrt(2 / np.pi).astype(np.float32) * (x + 0.044715 * x**3)))),
    _own(Softmax()),
    (Softmax(), lambda x: (e := jnp.exp(x - jnp.max(x, -1, keepdims=True))) / jnp.sum(e, -1, keepdims=True)),
    (Softmax(), lambda x: jnp.exp(x) / jnp.sum(jnp.exp(x), axis=-1, keepdims=True)),
    _own(Relu()),
    (Relu(), lambda x: jnp.maximum(0.0, x)),
    (Relu(), lambda x: jnp.where(x > 0, x, 0.0)),
    (Relu(), lambda x: x * (x > 0)),
    _own(Sigmoid()),
    (Sigmoid(), lambda x: 1.0 / (1.0 + jnp.exp(-x))),
)
"""Longer ones first: the relu inside a squared relu is part of it."""


_SIZES = (1009, 1013, 1019, 1021, 1031)
"""Sizes of the axes of a template's input: they stand for the sizes of what is matched, so that one trace serves all of a rank."""


def unary(program: Flat, slot: int, step: Step) -> tuple[Op, int] | None:
    """The op without weights whose output a slot is, and the slot that it reads; None if there is none."""
    value = program.types[slot]
    if value[1] != "float32" or not 1 <= len(value[0]) <= len(_SIZES):
        return None
    sizes = dict(zip(_SIZES, value[0], strict=False))
    for number, template in _templates(len(value[0]), step.primitive):
        bound = _unify(template, program, template.outputs[0], slot, {}, sizes)
        if bound is not None and isinstance(bound[0], int) and program.types[bound[0]] == value:
            return SPELLINGS[number][0], bound[0]
    return None


@functools.cache
def _templates(rank: int, last: str) -> tuple[tuple[int, Flat], ...]:
    return tuple((number, flat) for number, primitive, flat in _traced(rank) if primitive == last)


@functools.cache
def _traced(rank: int) -> tuple[tuple[int, str, Flat], ...]:
    found = []
    for number, (_, function) in enumerate(SPELLINGS):
        flat = flat_of(trace(function, jax.ShapeDtypeStruct(_SIZES[:rank], np.float32))[0])
        if isinstance(flat.outputs[0], int) and flat.outputs[0] in flat.producers:
            found.append((number, flat.producers[flat.outputs[0]].primitive, flat))
    return tuple(found)


def _seen(program: Flat, item: Ref) -> Ref:
    """A value without what changes nothing in it."""
    while isinstance(item, int):
        step = program.producers.get(item)
        if step is None or step.primitive not in _TRANSPARENT:
            break
        item = step.operands[0]
    return item


def _unify(
    template: Flat, program: Flat, wanted: Ref, seen: Ref, bound: dict[int, Ref], sizes: Mapping[int, Any]
) -> dict[int, Ref] | None:
    """The program's values for the template's inputs under which `wanted` is `seen`, or None."""
    wanted, seen = _seen(template, wanted), _seen(program, seen)
    if isinstance(wanted, Constant):
        return bound if isinstance(seen, Constant) and _equal(wanted, seen) else None
    if wanted < template.input_count:
        if wanted in bound:
            return bound if _same(bound[wanted], seen) else None
        return {**bound, wanted: seen}
    if not isinstance(seen, int) or seen not in program.producers:
        return None
    ours, theirs = template.producers[wanted], program.producers[seen]
    if (
        ours.primitive != theirs.primitive
        or not _alike(ours.params, theirs.params, sizes)
        or len(ours.operands) != len(theirs.operands)
    ):
        return None
    orders: list[tuple[Ref, ...]] = [theirs.operands]
    if ours.primitive in _COMMUTATIVE:
        orders.append(theirs.operands[::-1])
    for order in orders:
        trial: dict[int, Ref] | None = bound
        for a, b in zip(ours.operands, order, strict=True):
            trial = None if trial is None else _unify(template, program, a, b, trial, sizes)
        if trial is not None:
            return trial
    return None


def _same(first: Ref, second: Ref) -> bool:
    return first is second if isinstance(first, Constant) or isinstance(second, Constant) else first == second


def _equal(wanted: Constant, seen: Constant) -> bool:
    a, b = wanted.scalar, seen.scalar
    return a is not None and b is not None and (a == b or (np.isfinite(a - b) and abs(a - b) <= 1e-6 * max(abs(a), abs(b))))


def _alike(wanted: Any, seen: Any, sizes: Mapping[int, Any]) -> bool:
    """Whether parameters are the same once a template's sizes are the program's."""
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        return wanted.keys() == seen.keys() and all(_alike(wanted[name], seen[name], sizes) for name in wanted)
    if isinstance(wanted, list) and isinstance(seen, list):
        return len(wanted) == len(seen) and all(_alike(a, b, sizes) for a, b in zip(wanted, seen, strict=True))
    return bool((sizes.get(wanted, wanted) if type(wanted) is int else wanted) == seen)
