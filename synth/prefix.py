"""A sequence that is being grown, with its properties: one more op costs one composition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from properties import Capacity, Inference, RelationalProperty
from synth import sizes
from synth.analysis import macs, type_of
from synth.effect import macs as op_macs
from synth.effect import params as op_params
from synth.effect import summary
from synth.graph import Graph, chain
from synth.op import Op, Value
from synth.problem import Problem, left_to_proof
from synth.questions import shape_goal
from synth.settings import A_SIZING
from synth.space import Alphabet


@dataclass(frozen=True)
class Prefix:
    """Ops from `source` on, what comes out of them, and the relation of the input to it for each property (None: no dependence)."""

    source: Value
    asked: tuple[RelationalProperty, ...]
    ops: tuple[Op, ...]
    value: Value
    relations: tuple[object | None, ...]
    params: int = 0
    macs: int = 0

    @staticmethod
    def empty(problem: Problem) -> Prefix:
        """The empty sequence on the problem's input."""
        asked = problem.composed
        shape = type_of(problem.value)
        return Prefix(problem.value, asked, (), problem.value, tuple(each.identity(shape) for each in asked))

    def then(self, op: Op, after: Value) -> Prefix:
        """The sequence with one more op, whose result is of type `after`."""
        found = summary(op, (self.value,), self.asked)
        relations = []
        for each, relation in zip(self.asked, self.relations, strict=True):
            step = found.relation(each.name, 0, 0)
            relations.append(None if relation is None or step is None else relation.then(step))  # type: ignore[attr-defined]
        here = (self.value,)
        cost = self.params + op_params(op, here), self.macs + op_macs(op, here)
        return Prefix(self.source, self.asked, (*self.ops, op), after, tuple(relations), *cost)

    def grown(self, alphabet: Alphabet) -> Iterator[Prefix]:
        """The sequence with each op that fits."""
        for op, after in alphabet.moves(self.value):
            yield self.then(op, after)

    @property
    def inference(self) -> Inference:
        """The sequence's properties, its capacity aside."""
        relations = {each.name: {(0, 0): found} for each, found in zip(self.asked, self.relations, strict=True)}
        return Inference.of([type_of(self.source)], [type_of(self.value)], relations, Capacity())

    def distance(self, problem: Problem) -> float:
        """The sum of its distances to the requirements; and to the budget, unless the sizes are set afterwards."""
        found = self.inference
        total = sum(each.distance(found) for each in problem.target.requirements if not left_to_proof(each))
        return total if problem.widths else total + problem.target.budget.distance(self.params, self.macs)

    def finished(self, problem: Problem, rng: np.random.Generator) -> Graph | None:
        """The sequence as a program that keeps the budget, sized anew if the problem has widths; None if it cannot."""
        graph = chain(self.source, self.ops)
        budget = problem.target.budget
        if not problem.widths or budget.distance(graph.params, macs(graph)) == 0:
            return graph if budget.distance(graph.params, macs(graph)) == 0 else None
        goal = shape_goal(problem)
        if not isinstance(goal, Value):
            return None
        found = sizes.solve(
            self.source, self.ops, goal, widths=problem.widths, budget=budget, rng=rng, time_limit=math.inf, steps=A_SIZING
        )
        return chain(self.source, found[0]) if isinstance(found, tuple) else None
