"""What a property is to a search: a requirement that a program's inference meets or misses by a distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from properties.inference import Inference


@runtime_checkable
class Requirement(Protocol):
    """A demand on a program's properties. Frozen and hashable.

    `distance` is in [0, 1] and 0 only if the requirement is met; `relax` never increases the distance of any program. The built-in
    kinds also have `tighten`, which never decreases it; a search does not need it.
    """

    def distance(self, inference: Inference) -> float:
        """How far the program is from what is required: 0 if it is met, at most 1."""

    def met(self, inference: Inference) -> bool:
        """Whether the program has what is required."""

    def mutate(self, rng: np.random.Generator) -> Requirement:
        """A requirement near this one, weaker or stronger."""

    def relax(self, rng: np.random.Generator) -> Requirement:
        """A requirement that every program meeting this one meets."""

    def to_json(self) -> dict[str, Any]:
        """A JSON form with the key `kind`."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The requirement that `to_json` wrote."""
