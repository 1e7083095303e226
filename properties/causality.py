"""Causality: how far ahead along an axis an output element looks.

Read from mixing, so it errs upwards: a program that is called causal is causal for every value of its parameters and inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from properties.inference import Inference
from properties.mixing import MIXING, Mixing
from properties.mixing.affine import Term, extent, factor_range
from properties.mixing.counting import LARGEST_AXIS, factor_values


def lookahead(mixing: Mixing, axis: int, output_axis: int | None = None) -> int:
    """The largest p - q such that the element at q on `output_axis` can depend on position p of input `axis`.

    At most 0 for a causal program, at most -1 for a strictly causal one; `output_axis` is `axis` unless given. Minus the axis' size
    if nothing is depended on.
    """
    goal = axis if output_axis is None else output_axis
    terms = mixing.terms(axis)
    if not 0 <= goal < len(mixing.output):
        raise IndexError(f"axis {goal} of the output asked for, but its shape is {mixing.output}")
    size = mixing.input[axis]
    found = [_ahead(term, size, goal, mixing.output) for term in terms]
    return max(found, default=-size)


def is_causal(mixing: Mixing, axis: int, output_axis: int | None = None) -> bool:
    """Whether no element depends on later positions than its own."""
    return lookahead(mixing, axis, output_axis) <= 0


def _ahead(term: Term, size: int, goal: int, sizes: tuple[int, ...]) -> int:
    first, end = next(((a, b) for axis, a, b in term.guards if axis == goal), (0, sizes[goal]))
    others = sum(factor_range(factor, sizes)[1] for factor in term.factors if factor.axis != goal)
    if end - first > LARGEST_AXIS:
        return size - 1 - first
    places = np.arange(first, end)
    base = np.full(places.shape, term.offset + others)
    for factor in term.factors:
        if factor.axis == goal:
            base = base + factor_values(factor, places)
    last = np.minimum(base + extent(term.windows), size - 1)
    reached = last >= 0
    return int((last - places)[reached].max()) if reached.any() else -size


@dataclass(frozen=True, slots=True)
class CausalityRequirement:
    """An output looks at most `ahead` positions ahead along an axis. Distance: the positions too many, as a share of the axis."""

    axis: int
    ahead: int = 0
    input: int = 0
    output: int = 0
    kind = "causality"

    def distance(self, inference: Inference) -> float:
        mixing = inference.mixing[self.input, self.output]
        if self.axis >= min(len(mixing.input), len(mixing.output)):
            return 1.0
        excess = lookahead(mixing, self.axis) - self.ahead
        return min(1.0, max(0, excess) / max(1, mixing.input[self.axis]))

    def met(self, inference: Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> CausalityRequirement:
        """One position more or less."""
        return replace(self, ahead=self.ahead + int(rng.choice([-1, 1])))

    def relax(self, rng: np.random.Generator) -> CausalityRequirement:
        """One to three positions more."""
        return replace(self, ahead=self.ahead + int(rng.integers(1, 4)))

    def tighten(self, rng: np.random.Generator) -> CausalityRequirement:
        """One to three positions fewer."""
        return replace(self, ahead=self.ahead - int(rng.integers(1, 4)))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["axis"], data.get("ahead", 0), data.get("input", 0), data.get("output", 0))


def _demands(inference: Inference, input: int, output: int) -> tuple[CausalityRequirement, ...]:
    """For every axis along which the program does not look ahead, but for the first, of examples that do not meet."""
    mixing = inference.mixing[input, output]
    axes = range(1, min(len(mixing.input), len(mixing.output)))
    kept = [axis for axis in axes if mixing.input[axis] == mixing.output[axis] > 1 and is_causal(mixing, axis)]
    return tuple([CausalityRequirement(axis, 0, input, output) for axis in kept])


CAUSALITY = replace(MIXING, name="causality", demands=_demands)
"""Mixing by another name: `lookahead` and `is_causal` read it, and a replaced piece looks no further ahead."""
