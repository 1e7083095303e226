"""Mixing: its lattice, and its rules by family of primitives."""

from __future__ import annotations

from properties.interpreter import Context
from properties.mixing import contraction, elementwise, indexing, layout, reduction, window
from properties.mixing.affine import Term, at, whole
from properties.mixing.lattice import Mixing, ReceptiveField, mixing
from properties.relation import RelationalProperty
from properties.rules import OUT_OF_REACH, Rules, rule, top, union
from properties.shape import Shape


def _own_operand(context: Context, operand: int, output: int) -> Mixing | None:
    """Several values pass through side by side."""
    return Mixing.identity(context.equation.output_types[output].shape) if operand == output else None


TOPS: Rules = rule(_own_operand, "optimization_barrier", "device_put") | top(
    "select_and_scatter", "select_and_scatter_add", "select_and_gather_add", "bitcast_convert_type",
    "lu_solve", "tridiagonal_solve", "ragged_dot", "ragged_dot_general",
    because="no model of the vocabulary needs better",
)  # fmt: skip

BANDED = frozenset({"dot_general", "reduce_sum", "reduce_max", "argmax"})
"""Primitives whose rules leave out what a mask makes vanish."""

RULES: Rules = union(
    [elementwise.RULES, contraction.RULES, reduction.RULES, layout.RULES, indexing.RULES, window.RULES, TOPS, OUT_OF_REACH]
)


def _unstack(stacked: Shape, part: Shape) -> Mixing:
    """Some slice along the leading axis: which one is not known."""
    if 0 in stacked.shape:
        return Mixing.top(stacked.shape, part.shape)
    axes = [Mixing.identity(part.shape).axes[axis] for axis in range(len(part.shape))]
    return Mixing.of(stacked.shape, part.shape, ((whole(stacked.shape[0]),), *axes))


def _stack(part: Shape, stacked: Shape) -> Mixing:
    axes = tuple([(at(axis + 1),) for axis in range(len(part.shape))])
    return mixing(part.shape, stacked.shape, axes) or Mixing.top(part.shape, stacked.shape)


def _scanned(part: Mixing, before: Shape, after: Shape, steps: int) -> Mixing | None:
    """A relation between slices as one between arrays of them: to the same step, all the earlier ones or all the later ones."""
    trips = before.shape[0]
    window = {0: at(0), -1: at(0, -trips, windows=((1, trips),)), 1: at(0, 1, windows=((1, trips),))}[steps]
    axes = tuple([tuple([_behind(term) for term in terms]) for terms in part.axes])
    return mixing(before.shape, after.shape, ((window,), *axes))


def _behind(term: Term) -> Term:
    """The term with a new axis before those that it reads."""
    factors = tuple([factor._replace(axis=factor.axis + 1) for factor in term.factors])
    return term._replace(factors=factors, guards=tuple([(axis + 1, first, end) for axis, first, end in term.guards]))


def _top(before: Shape, after: Shape) -> Mixing:
    return Mixing.top(before.shape, after.shape)


def _fault(mixing: Mixing, before: Shape, after: Shape) -> str:
    if (mixing.input, mixing.output) == (before.shape, after.shape):
        return ""
    seen = f"relates shapes {mixing.input} and {mixing.output}; the equation has {before.shape} and {after.shape}"
    return f"{seen}: return a relation between these, or None if nothing gets through"


MIXING = RelationalProperty(
    name="mixing",
    identity=lambda shape: Mixing.identity(shape.shape),
    top=_top,
    rules=RULES,
    unstack=_unstack,
    stack=_stack,
    scanned=_scanned,
    banded=BANDED,
    fault=_fault,
)

__all__ = ["MIXING", "RULES", "Mixing", "ReceptiveField"]
