"""Ops recognised by their own jaxpr: a piece of a program that is step by step an op's trace is that op, however it was written.

A template is an op (or another spelling of one) traced as models are; it matches a value if its steps, read backwards from their
output, are the program's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alphanas.models.lifting.flat import BATCHES, Constant, Flat, Ref, Step, flatten
from properties.jaxpr import trace
from synth.op import Op, Value
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
    (Softmax(), lambda x: jnp.exp(x) / jnp.sum(jnp.exp(x), axis=-1, keepdims=True)),
    (Softmax(), lambda x: (e := jnp.exp(x - jnp.max(x, -1, keepdims=True))) / jnp.sum(e, -1, keepdims=True)),
    _own(Relu()),
    (Relu(), lambda x: jnp.maximum(0.0, x)),
    (Relu(), lambda x: jnp.where(x > 0, x, 0.0)),
    (Relu(), lambda x: x * (x > 0)),
    _own(Sigmoid()),
    (Sigmoid(), lambda x: 1.0 / (1.0 + jnp.exp(-x))),
)
"""Longer ones first: the relu inside a squared relu is part of it."""


def unary(program: Flat, slot: int, step: Step) -> tuple[Op, int] | None:
    """The op without weights whose output a slot is, and the slot that it reads; None if there is none."""
    value = program.value(slot)
    if value is None or value.dtype != "float32":
        return None
    for number, template in _templates(value):
        last = template.producers[template.outputs[0]]  # type: ignore[index]
        if last.primitive != step.primitive:
            continue
        bound = _unify(template, program, template.outputs[0], slot, {})
        if bound is not None and isinstance(bound[0], int) and program.value(bound[0]) == value:
            return SPELLINGS[number][0], bound[0]
    return None


@functools.lru_cache(maxsize=256)
def _templates(value: Value) -> tuple[tuple[int, Flat], ...]:
    found = []
    for number, (_, function) in enumerate(SPELLINGS):
        first, second = (trace(function, value.aval(batch))[0] for batch in BATCHES)
        flat = flatten(first, second)
        if isinstance(flat.outputs[0], int) and flat.outputs[0] in flat.producers:
            found.append((number, flat))
    return tuple(found)


def _seen(program: Flat, item: Ref) -> Ref:
    """A value without what changes nothing in it."""
    while isinstance(item, int):
        step = program.producers.get(item)
        if step is None or step.primitive not in _TRANSPARENT:
            break
        item = step.operands[0]
    return item


def _unify(template: Flat, program: Flat, wanted: Ref, seen: Ref, bound: dict[int, Ref]) -> dict[int, Ref] | None:
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
    if ours.primitive != theirs.primitive or not _alike(ours.params, theirs.params) or len(ours.operands) != len(theirs.operands):
        return None
    orders: list[tuple[Ref, ...]] = [theirs.operands]
    if ours.primitive in _COMMUTATIVE:
        orders.append(theirs.operands[::-1])
    for order in orders:
        trial: dict[int, Ref] | None = bound
        for a, b in zip(ours.operands, order, strict=True):
            trial = None if trial is None else _unify(template, program, a, b, trial)
        if trial is not None:
            return trial
    return None


def _same(first: Ref, second: Ref) -> bool:
    return first is second if isinstance(first, Constant) or isinstance(second, Constant) else first == second


def _equal(wanted: Constant, seen: Constant) -> bool:
    a, b = wanted.scalar, seen.scalar
    return a is not None and b is not None and (a == b or (np.isfinite(a - b) and abs(a - b) <= 1e-6 * max(abs(a), abs(b))))


def _alike(first: Any, second: Any) -> bool:
    return bool(first == second)
