"""Contractions: matrix products of any rank, and linear algebra over the last two axes."""

from __future__ import annotations

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
            axes.append((whole(size),))
        elif axis in batch:
            axes.append((at(tuple(batch).index(axis)),))
        else:
            axes.append((at(place),))
            place += 1
    return mixing(before, after, tuple(axes))


def mixes_last_axes(count: int):  # type: ignore[no-untyped-def]
    """A rule for operations on the last `count` axes, each leading axis being a batch."""

    def mixes(context: Context, operand: int, output: int) -> Mixing | None:
        before = context.equation.input_types[operand].shape
        after = context.equation.output_types[output].shape
        batch = len(before) - count
        if before[:batch] != after[:batch]:
            return Mixing.top(before, after)
        axes = tuple([(at(axis),) if axis < batch else (whole(size),) for axis, size in enumerate(before)])
        return mixing(before, after, axes)

    return mixes


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
    | rule(mixes_matrix_or_vector, "cholesky", "eig", "eigh", "lu", "qr", "geqrf", "geqp3", "householder_product", "schur", "svd",
           "tridiagonal", "hessenberg", "ormqr", "lu_pivots_to_permutation")
    | rule(solves_triangular, "triangular_solve")
)
