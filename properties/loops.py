"""Scans: which steps of the scanned arrays the results of a step owe something to.

A loop over slices is more than any number of equal steps: a step reads its own slice, and of the others only what the carry brings,
which is the earlier ones (the later ones if the scan runs backwards). So a recurrent network is causal along the scanned axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from properties.interpreter import Context, iterate, opaque, walk
from properties.shape import Shape

if TYPE_CHECKING:
    from properties.relation import RelationalAnalysis, Value


@dataclass(frozen=True)
class Scan:
    """One scan: its operands are `consts` fixed values, `carried` values that steps hand on, and arrays that are read in slices."""

    context: Context
    consts: int
    carried: int

    @staticmethod
    def of(context: Context) -> Scan:
        return Scan(context, context.equation.params["num_consts"], context.equation.params["num_carry"])

    @property
    def local(self) -> tuple[Shape, ...]:
        """What relations of the body are told apart by: its inputs, then the slices once more as they were in the steps before."""
        body = self.context.equation.programs[0]
        inputs = body.types[: body.input_count]
        return (*inputs, *inputs[self.consts + self.carried :])

    def rows(self, analysis: RelationalAnalysis) -> list[list[Any]]:
        """For every result of the scan its relations to the operands; `analysis` is over `local`."""
        results = self._iterated(analysis)
        return [self._row(analysis, value, result) for result, value in enumerate(results)]

    def _iterated(self, analysis: RelationalAnalysis) -> list[Value]:
        """The results of the last step."""
        equation, data = self.context.equation, self.context.data
        start = [analysis.input(k) if depends else analysis.constant() for k, depends in enumerate(data)]
        first = self.consts + self.carried
        frame = opaque(equation.programs[0])

        def step(carry: list[Value]) -> list[Value]:
            found = walk(frame, analysis, [*start[: self.consts], *carry, *start[first:]])
            return [*(self._handed_on(analysis, value) for value in found[: self.carried]), *found[self.carried :]]

        return iterate(analysis, start[self.consts : first], step, equation.params["length"], equation.output_types)

    def _handed_on(self, analysis: RelationalAnalysis, value: Value) -> Value:
        """What a step hands on is of a step before for all that follow."""
        first, end = self.consts + self.carried, len(self.context.data)
        nothing = (None,) * (end - first)
        kept = (*value[:first], *nothing, *value[end:])
        return analysis.join(kept, (*(None,) * first, *nothing, *value[first:end]))

    def _row(self, analysis: RelationalAnalysis, value: Value, result: int) -> list[Any]:
        equation, each = self.context.equation, analysis.property
        first, end, after = self.consts + self.carried, len(self.context.data), equation.output_types[result]
        if result < self.carried:
            last = [_along(value[end + k], each.sliced(equation.input_types[first + k])) for k in range(end - first)]
            return [*value[:first], *last]
        stack = each.stacked(after)
        fixed = [None if relation is None else relation.then(stack) for relation in value[:first]]
        return [*fixed, *(self._read(analysis, value, k, after) for k in range(end - first))]

    def _read(self, analysis: RelationalAnalysis, value: Value, k: int, after: Shape) -> Any:
        """The relation of a scanned array to stacked results: through each step's own slice, and through those before."""
        first, end = self.consts + self.carried, len(self.context.data)
        before, scanned = self.context.equation.input_types[first + k], analysis.property.scanned
        assert scanned is not None
        onward = 1 if self.context.equation.params["reverse"] else -1
        own, others = value[first + k], value[end + k]
        parts = [
            None if own is None else scanned(own, before, after, 0),
            None if others is None else scanned(others, before, after, onward),
        ]
        return joined(parts)


def _along(relation: Any, sliced: Any) -> Any:
    return None if relation is None else sliced.then(relation)


def joined(relations: Sequence[Any]) -> Any:
    """The join of the relations that are there; None if there are none."""
    result = None
    for relation in relations:
        if relation is not None:
            result = relation if result is None else result.join(relation)
    return result
