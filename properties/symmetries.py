"""How values move when positions of an input axis are moved: the abstract domain of equivariance, and its rules by primitive.

Two groups. `permutation`: the positions are permuted in any way. `translation`: the content is shifted, far from the borders: what
differs from a constant background stays inside, by the receptive field. A value either has a set of axes that move the same way,
none (it is invariant), or nothing is claimed. It errs to the safe side: what is claimed holds for every value of the parameters and
inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Literal

from properties.interpreter import Context
from properties.shape import Shape

Group = Literal["permutation", "translation"]


@dataclass(frozen=True, slots=True)
class Symmetry:
    """How a value moves: its moving axes with their strides (1 for permutations), sorted, and the axes along which it is constant.

    `known` is False where nothing is claimed; a stride s means that the value shifts by one when the input shifts by s. All of it
    holds for shifts by multiples of `period`.
    """

    moving: tuple[tuple[int, int], ...] = ()
    constant: frozenset[int] = frozenset()
    known: bool = True
    period: int = 1

    @property
    def invariant(self) -> bool:
        """Whether the value stays as it is."""
        return self.known and not self.moving

    def stride(self, axis: int) -> int | None:
        """The stride with which an axis moves; None if it does not, or if nothing is claimed."""
        return dict(self.moving).get(axis) if self.known else None


FIXED = Symmetry()
UNKNOWN = Symmetry(known=False)


@dataclass(frozen=True)
class SymmetryAnalysis:
    """The walker's view of the symmetry under one group."""

    group: Group

    def constant(self) -> Symmetry:
        return FIXED

    def depends(self, value: Symmetry) -> bool:
        return True  # what is constant along an axis matters for parameters too

    def join(self, first: Symmetry, second: Symmetry) -> Symmetry:
        return first if first == second else UNKNOWN

    def decide(self, value: Symmetry, decision: Shape, result: Shape) -> Symmetry:
        return UNKNOWN

    def unstack(self, value: Symmetry, stacked: Shape) -> Symmetry:
        if not value.known or value.stride(0) is not None:
            return UNKNOWN
        return _relocated(value, {axis: axis - 1 for axis in range(1, len(stacked.shape))}, frozenset())

    def stack(self, value: Symmetry, stacked: Shape) -> Symmetry:
        return _relocated(value, {axis: axis + 1 for axis in range(len(stacked.shape) - 1)}, frozenset())

    def settle(self, before: Symmetry, after: Symmetry, left: int | None, type_: Shape) -> Symmetry:
        return UNKNOWN

    def shortcut(self, context: Context, operands: Sequence[Symmetry]) -> None:
        return None

    def transfer(self, context: Context, operands: Sequence[Symmetry]) -> list[Symmetry]:
        equation = context.equation
        if all(not operand.moving and operand.known for operand in operands):
            found = _still(context, operands)
        elif not all(operand.known for operand in operands):
            found = UNKNOWN
        else:
            rule = _RULES.get(equation.primitive)
            found = UNKNOWN if rule is None else rule(context, operands, self.group)
        strides = [stride for _, stride in found.moving]
        period = lcm(*strides, *(operand.period for operand in operands))
        return [replace(found, period=period if found.known else 1)] * len(equation.outputs)


def _still(context: Context, operands: Sequence[Symmetry]) -> Symmetry:
    """Nothing moves; only what is constant along an axis is carried on."""
    name = context.equation.primitive
    if name in ELEMENTWISE or name in ("broadcast_in_dim", "transpose", "reshape", "squeeze"):
        found = _RULES[name](context, operands, "permutation")
        return found if found.known else FIXED
    return FIXED


def _relocated(value: Symmetry, places: dict[int, int], constant: frozenset[int]) -> Symmetry:
    """The value with its axes renamed; an axis that moves must still be there."""
    if not value.known or any(axis not in places for axis, _ in value.moving):
        return UNKNOWN
    moving = tuple(sorted((places[axis], stride) for axis, stride in value.moving))
    return Symmetry(moving, constant | {places[axis] for axis in value.constant if axis in places}, period=value.period)


def _elementwise(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    """Along an axis that moves every operand must move alike, or be constant."""
    rank = len(context.equation.output_types[0].shape)
    constants = []
    for operand, type_ in zip(operands, context.equation.input_types, strict=True):
        ones = range(rank) if not type_.shape else [axis for axis, size in enumerate(type_.shape) if size == 1]
        constants.append(operand.constant | frozenset(ones))
    moving = {pair for operand in operands for pair in operand.moving}
    if len({axis for axis, _ in moving}) != len(moving):
        return UNKNOWN
    for axis, _ in moving:
        if any(operand.stride(axis) is None and axis not in fixed for operand, fixed in zip(operands, constants, strict=True)):
            return UNKNOWN
    return Symmetry(tuple(sorted(moving)), frozenset.intersection(*constants))


def _reduce(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    """Reducing an axis that moves makes it vanish: every position is read alike."""
    reduced = set(context.equation.params["axes"])
    value = operands[0]
    rank = len(context.equation.input_types[0].shape)
    kept = [axis for axis in range(rank) if axis not in reduced]
    places = {axis: kept.index(axis) for axis in kept}
    left = tuple((axis, stride) for axis, stride in value.moving if axis not in reduced)
    return _relocated(Symmetry(left, value.constant - reduced), places, frozenset())


def _contract(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    """Contracted axes must move on both sides, or be constant on the side that does not."""
    (contracted, batches) = context.equation.params["dimension_numbers"]
    shapes = [type_.shape for type_ in context.equation.input_types]
    for a, b in zip(*contracted, strict=True):
        strides = operands[0].stride(a), operands[1].stride(b)
        if strides == (None, None):
            continue
        constant = [axis in operands[side].constant or shapes[side][axis] == 1 for side, axis in ((0, a), (1, b))]
        if strides[0] != strides[1] and not (strides[0] is None and constant[0]) and not (strides[1] is None and constant[1]):
            return UNKNOWN
    moved: dict[int, int] = {}
    for k, (a, b) in enumerate(zip(*batches, strict=True)):
        strides = operands[0].stride(a), operands[1].stride(b)
        if strides[0] != strides[1]:
            return UNKNOWN
        if strides[0] is not None:
            moved[k] = strides[0]
    place = len(batches[0])
    for side in (0, 1):
        for axis in range(len(shapes[side])):
            if axis in contracted[side] or axis in batches[side]:
                continue
            stride = operands[side].stride(axis)
            if stride is not None:
                moved[place] = stride
            place += 1
    return Symmetry(tuple(sorted(moved.items())))


def _broadcast(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    before, after = context.equation.input_types[0].shape, context.equation.output_types[0].shape
    places = [int(place) for place in context.equation.params["broadcast_dimensions"]]
    filled = {axis for axis in range(len(after)) if axis not in places}
    filled |= {place for axis, place in enumerate(places) if before[axis] == 1}
    return _relocated(operands[0], dict(enumerate(places)), frozenset(filled))


def _transpose(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    order = tuple(context.equation.params["permutation"])
    return _relocated(operands[0], {axis: order.index(axis) for axis in range(len(order))}, frozenset())


def _reshape(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    """Axes that stand alone before and after keep moving; those that are split or merged do not."""
    before, after = context.equation.input_types[0].shape, context.equation.output_types[0].shape
    places: dict[int, int] = {}
    i = o = 0
    left = right = 1
    while i < len(before) and o < len(after):
        if left == right and before[i] == after[o] and before[i] != 1:
            places[i] = o
            i, o = i + 1, o + 1
        elif left == right and before[i] == 1:
            i += 1
        elif left == right and after[o] == 1:
            o += 1
        elif left <= right:
            left, i = left * before[i], i + 1
        else:
            right, o = right * after[o], o + 1
        if left != right and (i == len(before) or o == len(after)):
            break
    return _relocated(operands[0], places, frozenset(axis for axis, size in enumerate(after) if size == 1))


def _slice(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    """A cut shifts positions, which a translation does not mind; a step multiplies the stride."""
    params = context.equation.params
    before, after = context.equation.input_types[0].shape, context.equation.output_types[0].shape
    steps = params["strides"] or (1,) * len(before)
    moving = []
    for axis, stride in operands[0].moving:
        if group == "permutation" and before[axis] != after[axis]:
            return UNKNOWN
        moving.append((axis, stride * steps[axis]))
    return Symmetry(tuple(moving), operands[0].constant)


def _pad(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    for axis, _ in operands[0].moving:
        low, high, interior = context.equation.params["padding_config"][axis]
        if interior or (group == "permutation" and (low or high)):
            return UNKNOWN
    return Symmetry(operands[0].moving) if not operands[1].moving else UNKNOWN


def _concatenate(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    """Along another axis only."""
    axis = context.equation.params["dimension"]
    if any(operand.stride(axis) is not None for operand in operands):
        return UNKNOWN
    found = _elementwise(context, operands, group)
    return Symmetry(found.moving, found.constant - {axis}, found.known)


def _convolve(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    """A window that slides: translations pass, permutations only where it is one position wide."""
    params, numbers = context.equation.params, context.equation.params["dimension_numbers"]
    kernel = context.equation.input_types[1].shape
    if operands[1].moving or params["batch_group_count"] != 1:
        return UNKNOWN
    moving = []
    for axis, stride in operands[0].moving:
        if axis == numbers.lhs_spec[1]:
            return UNKNOWN
        if axis == numbers.lhs_spec[0]:
            moving.append((numbers.out_spec[0], stride))
            continue
        k = numbers.lhs_spec[2:].index(axis)
        step = params["window_strides"][k]
        point = kernel[numbers.rhs_spec[2 + k]] == 1 and step == 1 and tuple(params["padding"][k]) == (0, 0)
        if params["lhs_dilation"][k] != 1 or (group == "permutation" and not point):
            return UNKNOWN
        moving.append((numbers.out_spec[2 + k], stride * step))
    return Symmetry(tuple(sorted(moving)))


def _pool(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    params = context.equation.params
    moving = []
    for axis, stride in operands[0].moving:
        size, step = params["window_dimensions"][axis], params["window_strides"][axis]
        point = size == 1 and step == 1 and tuple(params["padding"][axis]) == (0, 0)
        spread = (params.get("base_dilation") or (1,) * (axis + 1))[axis] != 1
        if spread or (group == "permutation" and not point):
            return UNKNOWN
        moving.append((axis, stride * step))
    return Symmetry(tuple(moving))


def _along_other_axes(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    """Sorting, accumulating and reversing: the axes worked on must not move."""
    params = context.equation.params
    named = params.get("dimensions", (params.get("axis", params.get("dimension", -1)),))
    rank = len(context.equation.input_types[0].shape)
    axes = {axis % rank for axis in named}
    if any(operand.stride(axis) is not None for operand in operands for axis in axes):
        return UNKNOWN
    return Symmetry(operands[0].moving) if len(operands) == 1 else UNKNOWN


def _split(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    axis = int(context.equation.params["axis"])
    return UNKNOWN if operands[0].stride(axis) is not None else Symmetry(operands[0].moving, operands[0].constant)


def _reduce_first(context: Context, operands: Sequence[Symmetry], group: Group) -> Symmetry:
    """An index of an extreme element: the axis it counts along must not move."""
    if any(operands[0].stride(axis) is not None for axis in context.equation.params["axes"]):
        return UNKNOWN
    return _reduce(context, operands, group)


def _elementwise_names() -> frozenset[str]:
    from properties.mixing import elementwise

    return frozenset(elementwise.RULES)


ELEMENTWISE = _elementwise_names()
_Rule = Callable[[Context, Sequence[Symmetry], Group], Symmetry]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"), _reduce),
    **dict.fromkeys(("argmax", "argmin"), _reduce_first),
    "dot_general": _contract,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolve,
    **dict.fromkeys(("reduce_window_sum", "reduce_window_max", "reduce_window_min"), _pool),
    **dict.fromkeys(("sort", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "rev"), _along_other_axes),
    "split": _split,
}
