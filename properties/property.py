"""What a property is to a search: a requirement that a program's inference meets or misses by a distance.

What a property is to the interpreter is a `RelationalProperty` (`relation.py`) or a `WalkedProperty` (`walked.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from properties.inference import PROPERTIES, Inference, Property

__all__ = ["Property", "Reads", "Requirement", "needed"]


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


@runtime_checkable
class Reads(Protocol):
    """A requirement that says which properties it reads, where they are not among those that are always inferred."""

    def reads(self) -> tuple[Property, ...]:
        """The properties that an inference must have for this requirement."""


def needed(requirements: Iterable[Requirement], *further: Property) -> tuple[Property, ...]:
    """What must be inferred for requirements to be read: what always is, and what they say."""
    own = [each for one in requirements if isinstance(one, Reads) for each in one.reads()]
    return tuple(dict.fromkeys((*PROPERTIES, *further, *own)))
