"""Reading and writing by index: exact where the indices are known constants, per axis where they are not."""

from __future__ import annotations

import numpy as np

from properties.interpreter import Context
from properties.mixing.affine import Term, at, guarded, whole
from properties.mixing.lattice import Mixing, mixing
from properties.rules import Rules, rule


def _scalar_to(after: tuple[int, ...]) -> Mixing:
    return Mixing.of((), after, ())


def _starts(context: Context, first: int, sizes: tuple[int, ...], limits: tuple[int, ...]) -> list[int | None]:
    """The start on each axis, kept within bounds as JAX does; None where it is not known."""
    starts: list[int | None] = []
    for k, (size, limit) in enumerate(zip(sizes, limits, strict=True)):
        if size == limit:
            starts.append(0)
            continue
        value = context.constant(first + k)
        starts.append(None if value is None else int(np.clip(int(value), 0, limit - size)))
    return starts


def cuts_at_start(context: Context, operand: int, output: int) -> Mixing | None:
    """A dynamic slice: a plain slice on axes whose start is known or does not matter, whole on the others."""
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    if operand > 0:
        return _scalar_to(after)
    starts = _starts(context, 1, after, before)
    axes = tuple([(whole(before[axis]),) if start is None else (at(axis, start),) for axis, start in enumerate(starts)])
    return mixing(before, after, axes)


def writes_at_start(context: Context, operand: int, output: int) -> Mixing | None:
    """A dynamic update: the operand keeps its places, the update goes where it is put, or anywhere if that is not known."""
    types = context.equation.input_types
    after = context.equation.output_types[output].shape
    update = types[1].shape
    starts = _starts(context, 2, update, after)
    if operand == 0:
        return _overwritten(after, starts, update)
    if operand > 1:
        return _scalar_to(after)
    terms = [whole(update[axis]) if start is None else at(axis, -start) for axis, start in enumerate(starts)]
    for axis, start in enumerate(starts):
        if start is not None:
            terms = [guarded(term, axis, start, start + update[axis]) for term in terms]
    return mixing(update, after, tuple([(term,) for term in terms]))


def _overwritten(shape: tuple[int, ...], starts: list[int | None], sizes: tuple[int, ...]) -> Mixing | None:
    """What is left of an operand around an update: exact if the update covers all axes but at most one."""
    partial = [axis for axis, size in enumerate(sizes) if size != shape[axis]]
    if len(partial) > 1 or any(start is None for start in starts):
        return Mixing.identity(shape)
    if not partial:
        return None
    axis = partial[0]
    first = starts[axis]
    assert first is not None
    sides = ((0, first), (first + sizes[axis], shape[axis]))
    axes = [tuple(guarded(at(k), axis, *side) for side in sides if side[0] < side[1]) for k in range(len(shape))]
    return mixing(shape, shape, tuple(axes))


def gathers(context: Context, operand: int, output: int) -> Mixing | None:
    """A gather: batch axes of the indices and untouched axes of the operand keep their places, indexed axes are read whole,
    or exactly if the indices are constants in arithmetic progression."""
    equation = context.equation
    numbers = equation.params["dimension_numbers"]
    after = equation.output_types[output].shape
    batch_places = [axis for axis in range(len(after)) if axis not in numbers.offset_dims]
    indices = equation.input_types[1].shape
    if operand == 1:
        axes = [(at(batch_places[k]),) for k in range(len(indices) - 1)]
        return mixing(indices, after, (*axes, (whole(indices[-1]),)))
    before = equation.input_types[0].shape
    sizes = equation.params["slice_sizes"]
    indexed = list(numbers.start_index_map)
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    offsets = iter(numbers.offset_dims)
    terms: list[tuple[Term, ...]] = []
    for axis, size in enumerate(before):
        place = None if axis in gone else next(offsets)
        if axis in numbers.operand_batching_dims:
            position = tuple(numbers.operand_batching_dims).index(axis)
            terms.append((at(batch_places[numbers.start_indices_batching_dims[position]]),))
        elif axis not in indexed:
            terms.append((Term() if place is None else at(place),))
        elif sizes[axis] == size and place is not None:
            terms.append((at(place),))
        else:
            terms.append((_indexed(context, indexed.index(axis), size, sizes[axis], place, batch_places),))
    return mixing(before, after, tuple(terms))


def _indexed(context: Context, column: int, size: int, width: int, place: int | None, batch_places: list[int]) -> Term:
    """The positions that known indices select on one axis, if they lie in arithmetic progression along one batch axis."""
    values = context.constant(1)
    if values is None or not values.size:
        return whole(size)
    starts = values[..., column].astype(np.int64)
    if starts.min() < 0 or starts.max() > size - width:
        return whole(size)  # out of bounds: clamped, filled or dropped by mode
    inner = () if place is None else at(place).factors
    if starts.min() == starts.max():
        return Term(int(starts.min()), inner)
    for axis in range(starts.ndim):
        line = np.moveaxis(starts, axis, -1).reshape(-1, starts.shape[axis])
        steps = np.diff(line, axis=1)
        if (line == line[:1]).all() and steps.size and (steps == steps.flat[0]).all():
            return Term(int(line[0, 0]), (*at(batch_places[axis], 0, int(steps.flat[0])).factors, *inner))
    return Term(int(starts.min()), inner, ((1, int(starts.max() - starts.min()) + 1),))


def scatters(context: Context, operand: int, output: int) -> Mixing | None:
    """A scatter: the operand keeps its places, updates keep them on untouched axes, indices reach everything."""
    equation = context.equation
    numbers = equation.params["dimension_numbers"]
    after = equation.output_types[output].shape
    placed = _placed(context)
    if operand == 0:
        if placed is None or equation.primitive != "scatter":
            return Mixing.identity(after)
        return _overwritten(after, *placed)
    before = equation.input_types[operand].shape
    if operand == 1:
        return Mixing.top(before, after)
    windows = [axis for axis in range(len(before)) if axis in numbers.update_window_dims]
    gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    kept = [axis for axis in range(len(after)) if axis not in gone]
    place = dict(zip(windows, kept, strict=True))
    if placed is not None and len(windows) == len(before):
        starts, sizes = placed
        spans = [(axis, start, start + sizes[axis]) for axis, start in enumerate(starts) if start is not None]
        if len(spans) == len(after):
            moved = [at(place[axis], -spans[place[axis]][1]) for axis in range(len(before))]
            return mixing(before, after, tuple([(term._replace(guards=tuple(spans)),) for term in moved]))
    axes: list[tuple[Term, ...]] = []
    for axis, size in enumerate(before):
        goal = place.get(axis)
        exact = goal is not None and after[goal] == size and goal not in numbers.scatter_dims_to_operand_dims
        axes.append((at(goal),) if exact and goal is not None else (whole(size),))
    return mixing(before, after, tuple(axes))


def _placed(context: Context) -> tuple[list[int | None], tuple[int, ...]] | None:
    """Start and size on every axis of the one window that a scatter writes, if it is one and known to lie inside."""
    equation = context.equation
    numbers = equation.params["dimension_numbers"]
    if len(equation.input_types[1].shape) != 1 or numbers.operand_batching_dims:
        return None
    index = context.constant(1)
    if index is None:
        return None
    after, update = equation.output_types[0].shape, equation.input_types[2].shape
    kept = [axis for axis in range(len(after)) if axis not in numbers.inserted_window_dims]
    sizes = [1] * len(after)
    for window, axis in zip(sorted(numbers.update_window_dims), kept, strict=True):
        sizes[axis] = update[window]
    starts: list[int | None] = [0] * len(after)
    for column, axis in enumerate(numbers.scatter_dims_to_operand_dims):
        start = int(index[column])
        if not 0 <= start <= after[axis] - sizes[axis]:
            return None
        starts[axis] = start
    return starts, tuple(sizes)


RULES: Rules = (
    rule(cuts_at_start, "dynamic_slice")
    | rule(writes_at_start, "dynamic_update_slice")
    | rule(gathers, "gather")
    | rule(
        scatters,
        "scatter",
        "scatter-add",
        "scatter_add",
        "scatter-sub",
        "scatter_sub",
        "scatter-mul",
        "scatter_mul",
        "scatter-min",
        "scatter_min",
        "scatter-max",
        "scatter_max",
    )
)
