"""Contractions: matrix products of any rank, and linear algebra over the last two axes."""

from __future__ import annotations

from typing import Any

from properties.interpreter import Context
from properties.mixing.affine import Term, at, whole
from properties.mixing.lattice import Mixing, mixing
from properties.rules import Rules, rule


def contracts(context: Context, operand: int, output: int) -> Mixing | None:
    """A `dot_general`: contracted axes are read whole, batch and free axes keep their places."""
    equation = context.equation
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = equation.params["dimension_numbers"]
    contracted, batch = ((lhs_contract, lhs_batch), (rhs_contract, rhs_batch))[operand]
    before, after = equation.input_types[operand].shape, equation.output_types[output].shape
    lhs_free = len(equation.input_types[0].shape) - len(lhs_contract) - len(lhs_batch)
    place = len(batch) + (lhs_free if operand else 0)
    axes: list[tuple[Term, ...]] = []
    for axis, size in enumerate(before):
        if axis in contracted:
            axes.append((_summed(context, tuple(contracted).index(axis), size),))
        elif axis in batch:
            axes.append((at(tuple(batch).index(axis)),))
        else:
            axes.append((at(place),))
            place += 1
    return mixing(before, after, tuple(axes))


def _summed(context: Context, position: int, size: int) -> Term:
    """The positions of a contracted axis that count: all of them, less those where a factor is known to be zero."""
    numbers, batches = context.equation.params["dimension_numbers"]
    for side, found in enumerate(context.bands):
        seen = None if found is None or not found.zero else found.seen_from(numbers[side][position])
        if seen is None:
            continue
        axis, low, high = seen
        place = _result_axis(context, side, axis, numbers, batches)
        if place is not None:
            return at(place, low, windows=((1, high - low + 1),))
    return whole(size)


def _result_axis(context: Context, side: int, axis: int, contracted: Any, batches: Any) -> int | None:
    """Where an operand's axis is in the result; None if it is contracted."""
    if axis in contracted[side]:
        return None
    if axis in batches[side]:
        return tuple(batches[side]).index(axis)
    shapes = [type_.shape for type_ in context.equation.input_types]
    free = [[k for k in range(len(shapes[s])) if k not in contracted[s] and k not in batches[s]] for s in (0, 1)]
    return len(batches[0]) + (len(free[0]) if side else 0) + free[side].index(axis)


def mixes_matrix_or_vector(context: Context, operand: int, output: int) -> Mixing | None:
    """An operation on batches of matrices some of whose operands are vectors: the axes that all results share are the batch."""
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    batch = min(len(type_.shape) for type_ in (*context.equation.input_types, *context.equation.output_types)) - 1
    batch = max(0, min(batch, len(context.equation.input_types[0].shape) - 2))
    if before[:batch] != after[:batch]:
        return Mixing.top(before, after)
    axes = tuple([(at(axis),) if axis < batch else (whole(size),) for axis, size in enumerate(before)])
    return mixing(before, after, axes)


def solves_triangular(context: Context, operand: int, output: int) -> Mixing | None:
    """Right-hand sides are solved apart from each other: in their columns, or in their rows if the matrix is on the right."""
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    batch = len(before) - 2
    free = -2 if not context.equation.params.get("left_side", True) else -1
    axes: list[tuple[Term, ...]] = [(at(axis),) for axis in range(batch)]
    axes += [(whole(before[-2]),), (whole(before[-1]),)]
    if operand == 1:
        axes[free] = (at(len(before) + free),)
    return mixing(before, after, tuple(axes))


RULES: Rules = (
    rule(contracts, "dot_general")
    | rule(
        mixes_matrix_or_vector,
        "cholesky",
        "eig",
        "eigh",
        "lu",
        "qr",
        "geqrf",
        "geqp3",
        "householder_product",
        "schur",
        "svd",
        "tridiagonal",
        "hessenberg",
        "ormqr",
        "lu_pivots_to_permutation",
    )
    | rule(solves_triangular, "triangular_solve")
)
