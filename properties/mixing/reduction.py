"""Reductions, cumulative operations, orderings and transforms along axes."""

from __future__ import annotations

from collections.abc import Sequence

from properties.interpreter import Context
from properties.mixing.affine import Term, at, whole
from properties.mixing.lattice import Mixing, mixing
from properties.rules import Rules, rule


def reduces_axes(context: Context, operand: int, output: int) -> Mixing | None:
    """Reduced axes are read whole, the others keep their places."""
    reduced = context.equation.params.get("axes", context.equation.params.get("dimensions", ()))
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    if len(before) != len(after) + len(reduced):
        return Mixing.top(before, after)
    axes: list[tuple[Term, ...]] = []
    place = 0
    for axis, size in enumerate(before):
        if axis in reduced:
            axes.append((_summed(context, axis, reduced, size),))
            continue
        axes.append((at(place),))
        place += 1
    return mixing(before, after, tuple(axes))


def _summed(context: Context, axis: int, reduced: Sequence[int], size: int) -> Term:
    """The positions of a reduced axis that count: all of them, less those where the operand is known to vanish."""
    found = context.bands[0] if context.bands else None
    vanishes = found is not None and found.zero == (context.equation.primitive == "reduce_sum")
    seen = found.seen_from(axis) if found is not None and vanishes else None
    if seen is None or seen[0] in reduced:
        return whole(size)
    kept, low, high = seen
    place = kept - sum(other < kept for other in reduced)
    return at(place, low, windows=((1, high - low + 1),))


def accumulates(context: Context, operand: int, output: int) -> Mixing | None:
    """A position depends on itself and those before it (after it, if reversed)."""
    axis, backwards = context.equation.params["axis"], context.equation.params["reverse"]
    shape = context.equation.output_types[output].shape
    size = shape[axis]
    axes = [(at(k),) for k in range(len(shape))]
    axes[axis] = (at(axis, 0 if backwards else 1 - size, windows=((1, size),)),)
    return mixing(shape, shape, tuple(axes))


def orders_axis(context: Context, operand: int, output: int) -> Mixing | None:
    """One axis is read whole by each of its positions, the others keep their places."""
    params = context.equation.params
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    named = params.get("dimension", params.get("axis", params.get("reduction_dimension", -1)))
    axis = named % len(before)
    axes = [(at(k),) for k in range(len(before))]
    axes[axis] = (whole(before[axis]),)
    return mixing(before, after, tuple(axes))


def transforms_last_axes(context: Context, operand: int, output: int) -> Mixing | None:
    """A Fourier transform: its axes are read whole."""
    count = len(context.equation.params["fft_lengths"])
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    batch = len(before) - count
    axes = tuple([(at(axis),) if axis < batch else (whole(size),) for axis, size in enumerate(before)])
    return mixing(before, after, axes)


RULES: Rules = (
    rule(
        reduces_axes,
        "reduce_sum",
        "reduce_max",
        "reduce_min",
        "reduce_prod",
        "reduce_and",
        "reduce_or",
        "reduce_xor",
        "argmax",
        "argmin",
        "reduce",
    )
    | rule(accumulates, "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
    | rule(orders_axis, "sort", "top_k", "approx_top_k")
    | rule(transforms_last_axes, "fft")
)
