"""Norms and attention that a person wrote out: found by their parts, and taken for an op only where both give the same numbers.

There are more spellings than anyone could list (which mean, which variance, where the scale stands, which layout, which mask). So
the parts say which op it could be and what it reads, and the piece runs beside that op on random numbers before it is believed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from alphanas.models.lifting.cuts import between, encoded
from alphanas.models.lifting.flat import Constant, Ref, Step
from alphanas.models.lifting.templates import unary
from synth.op import Op, ShapeMismatch, Value
from synth.ops.activation import Softmax
from synth.ops.attention import Attention
from synth.ops.normalization import GroupNorm, LayerNorm, RmsNorm
from synth.programs import NotEncodable, run

if TYPE_CHECKING:
    from alphanas.models.lifting.patterns import Matcher

Found = tuple[Op, tuple[int, ...], dict[str, int]]

LAYOUT = frozenset({"reshape", "transpose", "squeeze", "expand_dims", "convert_element_type", "copy"})
_ARITHMETIC = frozenset(
    {
        "add",
        "sub",
        "mul",
        "div",
        "square",
        "integer_pow",
        "pow",
        "rsqrt",
        "sqrt",
        "reduce_sum",
        "broadcast_in_dim",
        "max",
        "select_n",
    }
)
_LONGEST = 60
_BATCH = 2
TOLERANCE = 1e-4
SCALES = (1.0, 1e-3)
"""Inputs are drawn at two scales: at the smaller one a wrong epsilon shows."""


def norm(this: Matcher, slot: int, step: Step) -> Found | None:
    """Layer, RMS or group norm with its learned scale (and bias)."""
    vectors = [this.vector(item) for item in step.operands]
    last = next((leaf for leaf in vectors if leaf is not None), None)
    value = this.flat.value(slot)
    if last is None or value is None or value.dtype != "float32" or len(value.shape) < 2:
        return None
    for x, steps in _entries(this, slot):
        leaves = {item for each in steps for item in each.operands if isinstance(item, int) and this.is_leaf(item)}
        others = leaves - {last}
        if this.flat.types[x] != this.flat.types[slot] or len(others) > 1 or not _normalizes(steps):
            continue
        weights = {"bias": last, "scale": next(iter(others))} if step.primitive == "add" and others else {"scale": last}
        if leaves != set(weights.values()) or any(this.elements(leaf) != value.channels for leaf in leaves):
            continue
        for op in _norms(this, steps, value.channels, "bias" in weights):
            if _agree(this, op, slot, (x,), weights):
                return op, (x,), weights
    return None


def _normalizes(steps: Sequence[Step]) -> bool:
    kinds = {step.primitive for step in steps}
    return "reduce_sum" in kinds and not kinds.isdisjoint({"rsqrt", "sqrt", "pow"})


def _entries(this: Matcher, slot: int) -> Iterator[tuple[int, tuple[Step, ...]]]:
    """Every value that all of a slot's data comes through, nearest first, with the steps after it; arithmetic and layout only."""
    frontier: set[int] = {slot}
    steps: list[Step] = []
    while frontier and len(steps) < _LONGEST:
        latest = max(frontier)
        step = this.flat.producers.get(latest)
        if step is None or step.primitive not in _ARITHMETIC | LAYOUT:
            return
        steps.append(step)
        frontier = (frontier - set(step.results)) | {item for item in step.operands if isinstance(item, int) and this.is_data(item)}
        if len(frontier) == 1:
            yield next(iter(frontier)), between(this.flat, slot, frozenset(frontier))[0]


def _norms(this: Matcher, steps: Sequence[Step], channels: int, biased: bool) -> Iterator[Op]:
    constants = [
        item.scalar for step in steps if step.primitive in ("add", "max") for item in step.operands if isinstance(item, Constant)
    ]
    for epsilon in dict.fromkeys(number for number in constants if number is not None and 0 < number < 0.1):
        shown = float(np.format_float_positional(np.float32(epsilon), unique=True))
        if not biased:
            yield RmsNorm(epsilon=shown)
            continue
        yield LayerNorm(epsilon=shown)
        shapes = [this.flat.types[made][0] for step in steps for made in step.results]
        splits = [shape[-2] for shape in shapes if len(shape) > 2 and type(shape[-2]) is int and type(shape[-1]) is int]
        splits += [shape[-1] for shape in shapes if len(shape) > 1 and type(shape[-1]) is int]
        for groups in dict.fromkeys([*splits, 1]):
            if groups and channels % groups == 0:
                yield GroupNorm(groups=groups, epsilon=shown)


def attention(this: Matcher, slot: int, step: Step) -> Found | None:
    """Softmax of scaled products of queries and keys, times values, in heads or in one; causal, or without a mask."""
    mixed = _behind(this, slot, scaled=False)
    product = this.producer(mixed)
    if product is None or product.primitive != "dot_general" or this.flat.value(slot) is None:
        return None
    for probabilities, value in (product.operands, product.operands[::-1]):
        below = _behind(this, probabilities, scaled=False)
        maker = this.producer(below)
        found = unary(this.flat, below, maker) if isinstance(below, int) and maker is not None and this.is_data(below) else None
        if found is None or not isinstance(found[0], Softmax):
            continue
        scores = this.producer(_behind(this, found[1], scaled=True))
        if scores is None or scores.primitive != "dot_general":
            continue
        width = _contracted(this, scores)
        sources = [_source(this, item) for item in (*scores.operands, value)]
        if width is None or any(source is None for source in sources):
            continue
        one, other, values = (source for source in sources if source is not None)
        channels = this.value(one).channels
        for query, key in ((one, other), (other, one)):
            for causal in (False, True):
                op = Attention(heads=channels // width, causal=causal)
                if channels % width == 0 and _agree(this, op, slot, (query, key, values), {}):
                    return op, (query, key, values), {}
    return None


def _contracted(this: Matcher, step: Step) -> int | None:
    axes = step.params["dimension_numbers"][0][0]
    sizes = this.flat.types[step.operands[0]][0] if isinstance(step.operands[0], int) else []
    return sizes[axes[0]] if len(axes) == 1 and type(sizes[axes[0]]) is int else None


def _behind(this: Matcher, item: Ref, *, scaled: bool) -> Ref:
    """The value before moves of elements, and with `scaled` before scales by constants and masks."""
    while isinstance(item, int):
        step = this.flat.producers.get(item)
        if step is None:
            return item
        data = [operand for operand in step.operands if this.is_data(operand)]
        masks = scaled and step.primitive in ("mul", "div", "add", "sub", "select_n")
        if len(data) != 1 or (step.primitive not in LAYOUT and not masks):
            return item
        if any(isinstance(operand, int) and this.reads_leaves(operand) for operand in step.operands if operand != data[0]):
            return item
        item = data[0]
    return item


def _source(this: Matcher, item: Ref) -> int | None:
    """The last value of (batch, positions, features) before a query, key or value is split into heads."""
    found = None
    while isinstance(item, int):
        value = this.flat.value(item)
        if value is not None and len(value.shape) == 3:
            found = item
        following = _behind_once(this, item)
        if following is None:
            return found
        item = following
    return found


def _behind_once(this: Matcher, item: int) -> int | None:
    step = this.flat.producers.get(item)
    if step is None:
        return None
    data = [operand for operand in step.operands if this.is_data(operand)]
    others = [operand for operand in step.operands if not this.is_data(operand)]
    scale = step.primitive in ("mul", "div") and all(
        isinstance(other, Constant) or not this.reads_leaves(other) for other in others
    )
    if len(data) != 1 or not (scale or step.primitive in LAYOUT):
        return None
    return data[0] if isinstance(data[0], int) else None


def _agree(this: Matcher, op: Op, slot: int, inputs: tuple[int, ...], weights: dict[str, int]) -> bool:
    """Whether the steps between some values and a slot compute what an op does, on random numbers."""
    values = [this.flat.value(item) for item in inputs]
    if any(value is None for value in values):
        return False
    known = tuple(value for value in values if value is not None)
    steps, reads = between(this.flat, slot, frozenset(inputs))
    if set(reads) - set(inputs) - set(weights.values()) or any(step.problem for step in steps):
        return False
    try:
        op.check(*known)
        program = encoded(steps, (*dict.fromkeys(inputs), *weights.values()), slot)
        wanted = op.weights(*known)
    except (ShapeMismatch, NotEncodable):
        return False
    if wanted.keys() != weights.keys():
        return False
    places = tuple(dict.fromkeys(inputs).keys())
    shapes = tuple(tuple(this.flat.types[leaf][0]) for leaf in weights.values())
    return _same_numbers(op, known, tuple(places.index(item) for item in inputs), tuple(weights), shapes, json.dumps(program))


@functools.lru_cache(maxsize=512)
def _same_numbers(
    op: Op,
    values: tuple[Value, ...],
    places: tuple[int, ...],
    names: tuple[str, ...],
    shapes: tuple[tuple[int, ...], ...],
    text: str,
) -> bool:
    rng = np.random.default_rng(0)
    program, owned = json.loads(text), op.weights(*values)
    distinct = {place: value for place, value in zip(places, values, strict=True)}
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    weights = {name: jnp.asarray(array.reshape(owned[name].shape)) for name, array in zip(names, arrays, strict=True)}
    ours = jax.jit(lambda inputs: op.apply(weights, *(inputs[place] for place in places)))
    theirs = jax.jit(lambda inputs: run(program, [*inputs, *arrays], _BATCH)[0])
    for scale in SCALES:
        inputs = [scale * rng.standard_normal(distinct[place].aval(_BATCH).shape).astype(np.float32) for place in sorted(distinct)]
        wanted, seen = np.asarray(theirs(inputs)), np.asarray(ours(inputs))
        if wanted.shape != seen.shape or not np.allclose(
            wanted, seen, rtol=TOLERANCE, atol=TOLERANCE * np.abs(wanted).max(initial=0)
        ):
            return False
    return True
