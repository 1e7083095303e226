"""Layout steps as index arithmetic: where an element of the result is found in the operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from alphanas.hardware.program import Flat, NotLowerable, Step

Index = Any
Reader = Callable[[int, Sequence[Index]], Any]
"""(slot, indices) → the element there."""
MOVING = frozenset({"gather"})
"""Steps whose indices into an operand are data: a reader analyses no such index but holds it inside."""
Rule = Callable[[Flat, Step, Sequence[Index], Reader], Any]


def regroup(indices: Sequence[Index], old: Sequence[int], new: Sequence[int]) -> list[Index]:
    """The indices under shape `new` of the element that `indices` name under shape `old`, in row-major order."""
    result: list[Index] = []
    for before, after in _groups(old, new):
        result.extend(_unravel(_ravel(indices[before], old[before]), new[after]))
    return result


def joins(old: Sequence[int], new: Sequence[int]) -> bool:
    """Whether `regroup` from one shape to the other divides no index: every new axis is one or several old ones."""
    return all(sum(size != 1 for size in new[after]) <= 1 for _, after in _groups(old, new))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[slice, slice]]:
    """The shortest runs of axes of either shape that hold equally many elements."""
    groups = []
    i = j = 0
    while i < len(old) or j < len(new):
        first_old, first_new = i, j
        left = old[i] if i < len(old) else 1
        right = new[j] if j < len(new) else 1
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        groups.append((slice(first_old, i), slice(first_new, j)))
    return groups


def _ravel(indices: Sequence[Index], shape: Sequence[int]) -> Index:
    linear: Index = 0
    for index, size in zip(indices, shape, strict=True):
        linear = linear * size + (0 if size == 1 else index)
    return linear


def _unravel(linear: Index, shape: Sequence[int]) -> list[Index]:
    result = []
    for axis, size in enumerate(shape):
        below = math.prod(shape[axis + 1 :])
        above = math.prod(shape[:axis])
        index = linear if below == 1 else te.floordiv(linear, below)
        result.append(0 if size == 1 else index if above == 1 else te.floormod(index, size))
    return result


def _reshape(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    (source,) = step.inputs
    return read(source, regroup(indices, flat.types[step.output].shape, flat.types[source].shape))


def _transpose(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    permutation = step.params["permutation"]
    source: list[Index] = [0] * len(permutation)
    for place, axis in enumerate(permutation):
        source[axis] = indices[place]
    return read(step.inputs[0], source)


def _broadcast(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    (source,) = step.inputs
    shape = flat.types[source].shape
    dimensions = step.params["dimensions"]
    return read(source, [0 if size == 1 else indices[axis] for size, axis in zip(shape, dimensions, strict=True)])


def _slice(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    starts = step.params["start_indices"]
    strides = step.params["strides"] or (1,) * len(starts)
    return read(step.inputs[0], [i * by + at for i, by, at in zip(indices, strides, starts, strict=True)])


def _reverse(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    shape = flat.types[step.output].shape
    flipped = step.params["dimensions"]
    return read(step.inputs[0], [shape[axis] - 1 - i if axis in flipped else i for axis, i in enumerate(indices)])


def _tile(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    shape = flat.types[step.inputs[0]].shape
    padded = (1,) * (len(indices) - len(shape)) + tuple(shape)
    inside = [0 if size == 1 else te.floormod(i, size) for i, size in zip(indices, padded, strict=True)]
    return read(step.inputs[0], inside[len(indices) - len(shape) :])


def _pad(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    source, fill = step.inputs
    shape = flat.types[source].shape
    low = [pair[0] for pair in step.params["padding_config"]]
    gaps = [pair[2] + 1 for pair in step.params["padding_config"]]
    return guarded(indices, shape, low, gaps, lambda inside: read(source, inside), read(fill, []))


def guarded(
    indices: Sequence[Index],
    shape: Sequence[int],
    low: Sequence[int],
    gaps: Sequence[int],
    inner: Callable[[Sequence[Index]], Any],
    outside: Any,
    sizes: Sequence[int] | None = None,
) -> Any:
    """An element of an array padded by `low` in front and spread by `gaps`; `sizes`, where known, are the padded array's."""
    conditions, inside = [], []
    for axis, (index, size, before, gap) in enumerate(zip(indices, shape, low, gaps, strict=True)):
        at = index - before
        if before > 0:
            conditions.append(at >= 0)
        if gap > 1:
            conditions.append(te.floormod(at, gap) == 0)
            at = te.floordiv(at, gap)
        if sizes is None or sizes[axis] - before > (size - 1) * gap + 1:
            conditions.append(at < size)
        inside.append(at)
    if not conditions:
        return inner(inside)
    return te.if_then_else(te.all(*conditions) if len(conditions) > 1 else conditions[0], inner(inside), outside)


def _concatenate(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    axis = step.params["dimension"]
    parts, start = [], 0
    for slot in step.inputs:
        parts.append((slot, start))
        start += flat.types[slot].shape[axis]
    return _part(parts, axis, indices, read)


def _part(parts: Sequence[tuple[int, int]], axis: int, indices: Sequence[Index], read: Reader) -> Any:
    """The element of whichever part holds it, found by halving; at a known index, of that part alone."""
    if len(parts) == 1:
        ((slot, start),) = parts
        return read(slot, [i - start if place == axis else i for place, i in enumerate(indices)])
    middle = len(parts) // 2
    bound, index = parts[middle][1], indices[axis]
    if isinstance(index, int):
        return _part(parts[:middle] if index < bound else parts[middle:], axis, indices, read)
    low, high = (_part(half, axis, indices, read) for half in (parts[:middle], parts[middle:]))
    return te.if_then_else(index < bound, low, high)


def grain(flat: Flat, step: Step) -> int:
    """The length of which all parts of a concatenation of features are multiples; 0 for any other step."""
    if step.primitive != "concatenate" or step.params["dimension"] != len(flat.types[step.output].shape) - 1:
        return 0
    return math.gcd(*(flat.types[slot].shape[-1] for slot in step.inputs))


def _iota(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    index = indices[step.params["dimension"]]
    dtype = flat.types[step.output].dtype
    return tirx.const(index, dtype) if isinstance(index, int) else index.astype(dtype)


def _gather(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    """A slice of the operand begins at every vector of starts; out of bounds it is moved inside, or filled where JAX fills."""
    operand, starts = step.inputs
    shape, sizes = flat.types[operand].shape, step.params["slice_sizes"]
    numbers = step.params["dimension_numbers"]
    batch = [index for place, index in enumerate(indices) if place not in numbers.offset_dims]
    offsets = iter([indices[place] for place in numbers.offset_dims])
    inside: list[Index] = []
    valid = []
    for axis, (size, taken) in enumerate(zip(shape, sizes, strict=True)):
        at: Index = 0
        if axis in numbers.operand_batching_dims:
            at = batch[numbers.start_indices_batching_dims[numbers.operand_batching_dims.index(axis)]]
        elif axis not in numbers.collapsed_slice_dims:
            at = next(offsets)
        if axis in numbers.start_index_map:
            start = read(starts, [*batch, numbers.start_index_map.index(axis)])
            valid += [start >= 0, start <= size - taken]
            at = at + te.max(te.min(start, size - taken), 0)
        inside.append(at)
    value = read(operand, inside)
    if not valid or "FILL" not in str(step.params["mode"]).upper():
        return value
    fill = _fill(flat.types[step.output].dtype, step.params["fill_value"])
    return te.if_then_else(te.all(*valid), value, fill)


def _fill(dtype: Any, value: Any) -> Any:
    """What JAX puts where a gather leaves its operand: the given value, else NaN, the least signed or largest unsigned integer."""
    kind = np.dtype(dtype)
    if value is None and kind.kind in "iu":
        value = np.iinfo(kind).min if kind.kind == "i" else np.iinfo(kind).max
    return tirx.const(math.nan if value is None else value, kind.name)


def element(flat: Flat, step: Step, indices: Sequence[Index], read: Reader) -> Any:
    """The element of a layout step's result. Raises NotLowerable where the primitive has no rule."""
    rule = RULES.get(step.primitive)
    if rule is None:
        raise NotLowerable(step.primitive, "no rule for this primitive")
    return rule(flat, step, indices, read)


RULES: Mapping[str, Rule] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "rev": _reverse,
    "tile": _tile,
    "pad": _pad,
    "concatenate": _concatenate,
    "iota": _iota,
    "gather": _gather,
}
