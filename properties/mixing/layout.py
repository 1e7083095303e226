"""Layout: moving, splitting, merging, repeating and cutting axes."""

from __future__ import annotations

from math import prod

from properties.interpreter import Context
from properties.mixing.affine import Factor, Term, at, guarded
from properties.mixing.lattice import Mixing, mixing
from properties.mixing.substitute import divided, reduced
from properties.rules import Rules, rule


def broadcasts_to_axes(context: Context, operand: int, output: int) -> Mixing | None:
    """Each operand axis becomes a named result axis; the others repeat."""
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    if operand > 0:
        return None  # a dynamic size, not a value
    places = context.equation.params["broadcast_dimensions"]
    axes = tuple([(at(places[axis]),) if after[places[axis]] == size else (Term(),) for axis, size in enumerate(before)])
    return mixing(before, after, axes)


def permutes_axes(context: Context, operand: int, output: int) -> Mixing | None:
    before = context.equation.input_types[operand].shape
    permutation = tuple(context.equation.params["permutation"])
    axes = tuple([(at(permutation.index(axis)),) for axis in range(len(before))])
    return mixing(before, context.equation.output_types[output].shape, axes)


def keeps_order_of_elements(context: Context, operand: int, output: int) -> Mixing | None:
    """A reshape: operand axes are digits of the flat position that the result's indices spell."""
    if operand > 0:
        return None  # a dynamic size, not a value
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    return reshape(before, after)


def reshape(before: tuple[int, ...], after: tuple[int, ...]) -> Mixing | None:
    """The mixing of a reshape, exact wherever the axes split and merge evenly."""
    if prod(before) == 0:
        return Mixing.top(before, after)
    axes: list[tuple[Term, ...]] = [(Term(),)] * len(before)
    for ins, outs in _groups(before, after):
        flat = Term(0, _places(outs, after))
        stride = 1
        for axis in reversed(ins):
            axes[axis] = (reduced(divided(flat, stride, after), before[axis], after),)
            stride *= before[axis]
    return mixing(before, after, tuple(axes))


def _places(axes: list[int], shape: tuple[int, ...]) -> tuple[Factor, ...]:
    """The flat position within a group of axes, row-major."""
    factors = []
    stride = 1
    for axis in reversed(axes):
        factors.append(Factor(stride, axis))
        stride *= shape[axis]
    return tuple(factors)


def _groups(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of axes with equal numbers of elements."""
    groups = []
    i = o = 0
    while i < len(before) or o < len(after):
        ins, outs, count, other = [], [], 1, 1
        if i < len(before):
            ins, count, i = [i], before[i], i + 1
        if o < len(after):
            outs, other, o = [o], after[o], o + 1
        while count != other:
            if count < other and i < len(before):
                ins.append(i)
                count, i = count * before[i], i + 1
            else:
                outs.append(o)
                other, o = other * after[o], o + 1
        groups.append((ins, outs))
    return groups


def cuts_range(context: Context, operand: int, output: int) -> Mixing | None:
    params = context.equation.params
    before = context.equation.input_types[operand].shape
    starts = params["start_indices"]
    strides = params["strides"] or (1,) * len(before)
    axes = tuple([(at(axis, starts[axis], strides[axis]),) for axis in range(len(before))])
    return mixing(before, context.equation.output_types[output].shape, axes)


def pads_axes(context: Context, operand: int, output: int) -> Mixing | None:
    """Positions move and spread apart; the padding value, a scalar, reaches everything."""
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    if operand == 1:
        return Mixing.of((), after, ())
    spans = []
    terms = []
    for axis, (low, _, interior) in enumerate(context.equation.params["padding_config"]):
        step = interior + 1
        spans.append((axis, low, low + (before[axis] - 1) * step + 1))
        terms.append(Term(0, (Factor(1, axis, 1, -low, step),)))
    axes = tuple([(term._replace(guards=tuple(spans)),) for term in terms])
    return mixing(before, after, axes)


def joins_end_to_end(context: Context, operand: int, output: int) -> Mixing | None:
    """A concatenation: an operand reaches its own part of the axis only."""
    axis = int(context.equation.params["dimension"])
    types = context.equation.input_types
    start = sum(type_.shape[axis] for type_ in types[:operand])
    before = types[operand].shape
    terms = [guarded(at(k, -start if k == axis else 0), axis, start, start + before[axis]) for k in range(len(before))]
    return mixing(before, context.equation.output_types[output].shape, tuple([(term,) for term in terms]))


def stacks_up(context: Context, operand: int, output: int) -> Mixing | None:
    """Operands become the positions of a new axis."""
    axis = int(context.equation.params["axis"])
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    if not before:
        return Mixing.top(before, after)
    terms = [guarded(at(k if k < axis else k + 1), axis, operand, operand + 1) for k in range(len(before))]
    return mixing(before, after, tuple([(term,) for term in terms]))


def takes_apart(context: Context, operand: int, output: int) -> Mixing | None:
    """The positions of an axis become results."""
    axis = int(context.equation.params["axis"])
    before = context.equation.input_types[operand].shape
    axes = [(Term(output),) if k == axis else (at(k if k < axis else k - 1),) for k in range(len(before))]
    return mixing(before, context.equation.output_types[output].shape, tuple(axes))


def reverses_axes(context: Context, operand: int, output: int) -> Mixing | None:
    before = context.equation.input_types[operand].shape
    turned = context.equation.params["dimensions"]
    axes = tuple([(at(k, size - 1, -1) if k in turned else at(k),) for k, size in enumerate(before)])
    return mixing(before, context.equation.output_types[output].shape, axes)


def drops_axes(context: Context, operand: int, output: int) -> Mixing | None:
    """A squeeze: axes of size 1 vanish."""
    before = context.equation.input_types[operand].shape
    return reshape(before, context.equation.output_types[output].shape)


def splits_axis(context: Context, operand: int, output: int) -> Mixing | None:
    axis = int(context.equation.params["axis"])
    start = sum(map(int, context.equation.params["sizes"][:output]))
    before = context.equation.input_types[operand].shape
    axes = tuple([(at(k, start if k == axis else 0),) for k in range(len(before))])
    return mixing(before, context.equation.output_types[output].shape, axes)


def repeats_axes(context: Context, operand: int, output: int) -> Mixing | None:
    """A tile: a position is the index modulo the operand's size."""
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    axes = tuple([(Term(0, (Factor(1, axis, modulus=size),)),) for axis, size in enumerate(before)])
    return mixing(before, after, axes)


RULES: Rules = (
    rule(broadcasts_to_axes, "broadcast_in_dim")
    | rule(stacks_up, "stack")
    | rule(takes_apart, "unstack")
    | rule(permutes_axes, "transpose")
    | rule(keeps_order_of_elements, "reshape")
    | rule(cuts_range, "slice")
    | rule(pads_axes, "pad")
    | rule(joins_end_to_end, "concatenate")
    | rule(reverses_axes, "rev")
    | rule(drops_axes, "squeeze", "expand_dims")
    | rule(splits_axis, "split")
    | rule(repeats_axes, "tile")
)
