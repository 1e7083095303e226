"""Requirements that synthesis knows beside those of `properties`: how far an output sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from properties import Inference


@dataclass(frozen=True, slots=True)
class ReceptiveFieldRequirement:
    """An output element can depend on at least so many positions of each input axis (0 asks nothing of an axis).

    Distance: the mean missing share over the axes that are asked for.
    """

    positions: tuple[int, ...]
    input: int = 0
    output: int = 0
    kind = "receptive_field"

    def distance(self, inference: Inference) -> float:
        asked = [(axis, least) for axis, least in enumerate(self.positions) if least > 0]
        if not asked:
            return 0.0
        mixing = inference.relation("mixing", self.input, self.output)
        if mixing is None or len(mixing.input) != len(self.positions):
            return 1.0
        return sum(max(0, least - mixing.positions(axis)) / least for axis, least in asked) / len(asked)

    def met(self, inference: Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> ReceptiveFieldRequirement:
        """Two positions more or fewer on every axis that is asked for."""
        step = int(rng.choice([-2, 2]))
        return replace(self, positions=tuple(max(1, least + step) if least else 0 for least in self.positions))

    def relax(self, rng: np.random.Generator) -> ReceptiveFieldRequirement:
        """One or two positions fewer on every axis."""
        step = int(rng.integers(1, 3))
        return replace(self, positions=tuple(max(0, least - step) for least in self.positions))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self), "positions": list(self.positions)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(tuple(data["positions"]), data.get("input", 0), data.get("output", 0))
