"""The stages that judge a candidate, from cheap to costly, with what each costs and what its numbers say about the next one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from alphanas.scoring.ranking import Correlation, correlation


@dataclass(frozen=True)
class Stage:
    """A stage: its name in the study with what tells two of a name apart, what it costs, and whether it turns candidates away.

    `rejecting` stages are filters, and are switched off where they do not rank what comes next.
    """

    name: str
    cost: str
    discriminator: str = ""
    rejecting: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.discriminator}".strip()


@dataclass(frozen=True)
class Observed:
    """What a study saw of a stage: numbers by candidate, higher is better; the seconds that it took; how many it turned away."""

    stage: Stage
    numbers: Mapping[int, float]
    seconds: Sequence[float] = ()
    entered: int = 0
    turned_away: int = 0
    switched_off: int | None = None
    """The generation from which it is left out."""


def between(first: Observed, second: Observed) -> Correlation:
    """How well the numbers of a stage rank those of another, over the candidates that have both."""
    both = sorted(first.numbers.keys() & second.numbers.keys())
    return correlation([first.numbers[one] for one in both], [second.numbers[one] for one in both])


def useless(first: Observed, second: Observed, *, pairs: int) -> Correlation | None:
    """The correlation that says that a rejecting stage does not rank the next one: of at least `pairs` candidates, with an interval
    that reaches 0 or below; None where it ranks, is no filter, or has seen too few."""
    if not first.stage.rejecting or pairs < 1:
        return None
    found = between(first, second)
    return found if found.n >= pairs and not found.ranks else None


def table(observed: Sequence[Observed]) -> list[dict[str, Any]]:
    """The cascade for summary.json: each stage with its correlation to the next one; null for what was not measured."""
    rows = []
    for index, one in enumerate(observed):
        after = observed[index + 1] if index + 1 < len(observed) else None
        rows.append(
            {
                "stage": str(one.stage),
                "cost": one.stage.cost,
                "seconds": median(one.seconds) if one.seconds else None,
                "candidates": one.entered,
                "turned_away": one.turned_away if one.stage.rejecting else None,
                "next": None if after is None else str(after.stage),
                "correlation": None if after is None else between(one, after).to_json(),
                "switched_off": one.switched_off,
            }
        )
    return rows
