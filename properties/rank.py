"""Rank bound: the narrowest bottleneck between an input and an output.

For every value of the parameters and inputs the rank of the Jacobian is at most this many. Along a path the smaller bound holds,
parallel paths add up, and no bound exceeds the number of elements of either end. It errs upwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from properties.interpreter import Context
from properties.relation import RelationalProperty
from properties.rules import every
from properties.shape import Shape

if TYPE_CHECKING:
    from properties.inference import Inference
    from properties.property import Requirement


@dataclass(frozen=True, slots=True)
class Rank:
    """At most `bound` independent directions get through, from a value of `before` to one of `after` elements.

    A step that puts `copies` values like the one before side by side lets so many times more through.
    """

    bound: int
    before: int
    after: int
    copies: int = 1

    def then(self, following: Rank) -> Rank:
        bound = min(self.bound * following.copies, following.bound, self.before)
        return Rank(bound, self.before, following.after, self.copies * following.copies)

    def join(self, other: Rank) -> Rank:
        bound = min(self.bound + other.bound, self.before, self.after)
        return Rank(bound, self.before, self.after, max(self.copies, other.copies))


def between(before: Shape, after: Shape) -> Rank:
    """The bound for any function between two shapes."""
    return Rank(min(before.size, after.size), before.size, after.size)


def is_bounded_by_its_ends(context: Context, operand: int, output: int) -> Rank:
    return between(context.equation.input_types[operand], context.equation.output_types[output])


def _demands(inference: Inference, input: int, output: int) -> tuple[Requirement, ...]:
    from properties.requirements import RankRequirement

    return (RankRequirement.of(inference, input, output),)


RANK = RelationalProperty(
    name="rank",
    demands=_demands,
    identity=lambda shape: Rank(shape.size, shape.size, shape.size),
    top=between,
    rules=every(is_bounded_by_its_ends),
    stack=lambda part, stacked: Rank(stacked.size, part.size, stacked.size, stacked.shape[0]),
)
