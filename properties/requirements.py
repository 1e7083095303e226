"""Requirements on the built-in properties: what a synthesized piece must have."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any, Self

import numpy as np

from properties.capacity import FIGURES
from properties.causality import CausalityRequirement
from properties.equivariance import EquivarianceRequirement
from properties.inference import Inference
from properties.property import Requirement
from properties.scale import ScaleRequirement


@dataclass(frozen=True, slots=True)
class ShapeRequirement:
    """An output has this shape; None leaves a size free.

    Distance: the share of the axes whose size differs, 1 if their number differs.
    """

    shape: tuple[int | None, ...]
    output: int = 0
    kind = "shape"

    @classmethod
    def of(cls, inference: Inference, output: int = 0) -> Self:
        """What a program already has."""
        return cls(inference.shape[output].shape, output)

    def distance(self, inference: Inference) -> float:
        if self.output >= len(inference.shape):
            return 1.0
        found = inference.shape[self.output].shape
        if len(found) != len(self.shape):
            return 1.0
        wrong = sum(asked is not None and asked != size for asked, size in zip(self.shape, found, strict=True))
        return wrong / max(1, len(found))

    def met(self, inference: Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> ShapeRequirement:
        """One size freed, halved or doubled (the leading axis, a batch, stays)."""
        axes = [axis for axis, size in enumerate(self.shape) if axis and size is not None]
        if not axes:
            return self
        axis = int(rng.choice(axes))
        size = self.shape[axis]
        assert size is not None
        choices: list[int | None] = [None, 2 * size, *([size // 2] if size % 2 == 0 else [])]
        return self._with(axis, choices[int(rng.integers(len(choices)))])

    def relax(self, rng: np.random.Generator) -> ShapeRequirement:
        """One size freed."""
        axes = [axis for axis, size in enumerate(self.shape) if size is not None]
        return self._with(int(rng.choice(axes)), None) if axes else self

    def _with(self, axis: int, size: int | None) -> ShapeRequirement:
        return replace(self, shape=(*self.shape[:axis], size, *self.shape[axis + 1 :]))

    def tighten(self, rng: np.random.Generator) -> ShapeRequirement:
        """Itself: a free size can be bound to any."""
        return self

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "shape": list(self.shape), "output": self.output}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(tuple(data["shape"]), data.get("output", 0))


@dataclass(frozen=True, slots=True)
class DepthRequirement:
    """An output is at least this deep from an input. Distance: the missing share, max(0, minimum - depth) / max(1, minimum)."""

    minimum: int
    input: int = 0
    output: int = 0
    kind = "depth"

    @classmethod
    def of(cls, inference: Inference, input: int = 0, output: int = 0) -> Self:
        """What a program already has."""
        return cls(inference.depth[input, output], input, output)

    def distance(self, inference: Inference) -> float:
        if self.input >= len(inference.inputs) or self.output >= len(inference.shape):
            return 1.0 if self.minimum else 0.0
        return max(0, self.minimum - inference.depth[self.input, self.output]) / max(1, self.minimum)

    def met(self, inference: Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> DepthRequirement:
        """One or two more or fewer."""
        return replace(self, minimum=max(0, self.minimum + int(rng.choice([-2, -1, 1, 2]))))

    def relax(self, rng: np.random.Generator) -> DepthRequirement:
        """One or two fewer."""
        return replace(self, minimum=max(0, self.minimum - int(rng.integers(1, 3))))

    def tighten(self, rng: np.random.Generator) -> DepthRequirement:
        """One or two more."""
        return replace(self, minimum=self.minimum + int(rng.integers(1, 3)))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["minimum"], data.get("input", 0), data.get("output", 0))


@dataclass(frozen=True, slots=True)
class MixingRequirement:
    """An output mixes an input at least so much, entry by entry (0 none … 3 all).

    Distance: the entries that fall short, as a share of `entries` (of those above none, unless the requirement was relaxed from one
    that asked for more); 1 if the matrix has another shape.
    """

    minimum: tuple[tuple[int, ...], ...]
    input: int = 0
    output: int = 0
    entries: int = 0
    kind = "mixing"

    def __post_init__(self) -> None:
        asked = sum(entry > 0 for row in self.minimum for entry in row)
        object.__setattr__(self, "entries", max(asked, self.entries))

    @classmethod
    def of(cls, inference: Inference, input: int = 0, output: int = 0) -> Self:
        """What a program already has."""
        return cls.from_matrix(inference.mixing[input, output].matrix, input, output)

    @classmethod
    def from_matrix(cls, matrix: Any, input: int = 0, output: int = 0) -> Self:
        """At least this matrix of 0 … 3."""
        return cls(tuple(tuple(int(entry) for entry in row) for row in np.asarray(matrix)), input, output)

    def distance(self, inference: Inference) -> float:
        asked = np.array(self.minimum, dtype=np.int64)
        if not asked.any():
            return 0.0
        if self.input >= len(inference.inputs) or self.output >= len(inference.shape):
            return 1.0
        found = inference.mixing[self.input, self.output].matrix
        if found.shape != asked.shape:
            return 1.0
        return float((asked > found).sum() / self.entries)

    def met(self, inference: Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> MixingRequirement:
        """One entry a step up or down, or the whole demand dropped (one time in four)."""
        matrix = np.array(self.minimum, dtype=np.int64)
        if not matrix.size:
            return self
        if rng.random() < 0.25:
            return self.from_matrix(np.zeros_like(matrix), self.input, self.output)
        position = tuple(rng.integers(size) for size in matrix.shape)
        matrix[position] = np.clip(matrix[position] + rng.choice([-1, 1]), 0, 3)
        return self.from_matrix(matrix, self.input, self.output)

    def relax(self, rng: np.random.Generator) -> MixingRequirement:
        """One entry a step down."""
        matrix = np.array(self.minimum, dtype=np.int64)
        positive = np.argwhere(matrix)
        if not len(positive):
            return self
        matrix[tuple(rng.choice(positive))] -= 1
        return replace(self, minimum=tuple(tuple(int(entry) for entry in row) for row in matrix))

    def tighten(self, rng: np.random.Generator) -> MixingRequirement:
        """One entry above none a step up, so that no program comes closer."""
        matrix = np.array(self.minimum, dtype=np.int64)
        open_ = np.argwhere((matrix > 0) & (matrix < 3))
        if not len(open_):
            return self
        matrix[tuple(rng.choice(open_))] += 1
        return replace(self, minimum=tuple(tuple(int(entry) for entry in row) for row in matrix))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self), "minimum": [list(row) for row in self.minimum]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        relaxed = cls.from_matrix(data["minimum"], data.get("input", 0), data.get("output", 0))
        return replace(relaxed, entries=data.get("entries", 0))


Interval = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class CapacityRequirement:
    """Figures of the capacity lie in closed intervals, by name, for every input and however often a loop runs.

    Distance: the mean over the figures of 1 - bound / most above an interval or 1 - least / bound below it, the larger of the two.
    So an upper bound is as far as can be from a figure of which the most is not known.
    """

    intervals: tuple[tuple[str, float, float], ...]
    kind = "capacity"

    @classmethod
    def between(cls, **intervals: Interval) -> Self:
        """Intervals by the names of the capacity's figures: `between(params=(0, 10_000))`; None for a bound that is not asked for.

        Raises ValueError for a name that is no figure.
        """
        unknown = sorted(set(intervals) - set(FIGURES))
        if unknown:
            raise ValueError(f"the capacity has no figure {', '.join(unknown)}; it has {', '.join(FIGURES)}")
        asked = ((name, low or 0, inf if high is None else high) for name, (low, high) in sorted(intervals.items()))
        return cls(tuple((name, float(low), float(high)) for name, low, high in asked))

    def distance(self, inference: Inference) -> float:
        if not self.intervals:
            return 0.0
        return sum(self._outside(inference, *interval) for interval in self.intervals) / len(self.intervals)

    def _outside(self, inference: Inference, name: str, low: float, high: float) -> float:
        least, most = inference.capacity.interval(name)
        above = 1.0 - max(0.0, high) / most if most > high else 0.0
        below = 1.0 - max(0.0, least) / low if least < low else 0.0
        return max(above, below)

    def met(self, inference: Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> CapacityRequirement:
        """One interval scaled by 1/2 … 2."""
        factor = float(2.0 ** rng.uniform(-1, 1))
        return self._scaled(rng, factor, factor)

    def relax(self, rng: np.random.Generator) -> CapacityRequirement:
        """One interval widened on both sides by a factor of 1 … 2."""
        factor = float(2.0 ** rng.uniform(0, 1))
        return self._scaled(rng, 1 / factor, factor)

    def tighten(self, rng: np.random.Generator) -> CapacityRequirement:
        """One interval's upper bound lowered towards its lower one."""
        if not self.intervals:
            return self
        k = int(rng.integers(len(self.intervals)))
        name, low, high = self.intervals[k]
        share = float(rng.uniform(0.5, 1.0))
        changed = (name, low, high if high == inf else low + (high - low) * share)
        return CapacityRequirement((*self.intervals[:k], changed, *self.intervals[k + 1 :]))

    def _scaled(self, rng: np.random.Generator, below: float, above: float) -> CapacityRequirement:
        if not self.intervals:
            return self
        k = int(rng.integers(len(self.intervals)))
        name, low, high = self.intervals[k]
        changed = (name, low * below, high * above)
        return CapacityRequirement((*self.intervals[:k], changed, *self.intervals[k + 1 :]))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "intervals": {name: [low, None if high == inf else high] for name, low, high in self.intervals}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls.between(**{name: tuple(span) for name, span in data["intervals"].items()})


@dataclass(frozen=True, slots=True)
class RankRequirement:
    """At least so many independent directions may get through, for the batch that is looked at. Distance: the missing share."""

    minimum: int
    input: int = 0
    output: int = 0
    kind = "rank"

    @classmethod
    def of(cls, inference: Inference, input: int = 0, output: int = 0) -> Self:
        """What a program already has."""
        return cls(inference.rank[input, output], input, output)

    def distance(self, inference: Inference) -> float:
        if self.input >= len(inference.inputs) or self.output >= len(inference.shape):
            return 1.0 if self.minimum else 0.0
        return max(0, self.minimum - inference.rank[self.input, self.output]) / max(1, self.minimum)

    def met(self, inference: Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> RankRequirement:
        """Scaled by 1/2 … 2."""
        return replace(self, minimum=round(self.minimum * 2.0 ** rng.uniform(-1, 1)))

    def relax(self, rng: np.random.Generator) -> RankRequirement:
        """Scaled by 1/2 … 1."""
        return replace(self, minimum=int(self.minimum * 2.0 ** rng.uniform(-1, 0)))

    def tighten(self, rng: np.random.Generator) -> RankRequirement:
        """Scaled by 1 … 2."""
        return replace(self, minimum=max(self.minimum, round(self.minimum * 2.0 ** rng.uniform(0, 1))))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["minimum"], data.get("input", 0), data.get("output", 0))


KINDS: Mapping[str, type[Requirement]] = {
    kind.kind: kind
    for kind in (
        ShapeRequirement, DepthRequirement, MixingRequirement, RankRequirement, CapacityRequirement, CausalityRequirement,
        ScaleRequirement, EquivarianceRequirement,
    )
}  # fmt: skip


def requirement(data: Mapping[str, Any]) -> Requirement:
    """The requirement that a JSON form stands for; its kind is a name in `KINDS` or an import path `package.module:Class`."""
    kind = data.get("kind")
    if isinstance(kind, str) and ":" in kind:
        return _imported(kind).from_json(data)
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(KINDS)
        raise ValueError(f"requirement kind {kind!r} is not known: give one of {known}, or an import path 'package.module:Class'")
    return KINDS[kind].from_json(data)


def _imported(path: str) -> type[Requirement]:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"requirement kind {path!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Requirement)):
        raise ValueError(f"requirement kind {path!r} is {found!r}, which is no class with the methods of properties.Requirement")
    return found


def requirements(data: Sequence[Mapping[str, Any]]) -> tuple[Requirement, ...]:
    """The requirements that JSON forms stand for."""
    return tuple(requirement(each) for each in data)
