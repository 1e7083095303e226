"""What synthesis answers: Found, Infeasible or GaveUp. Three answers are three types."""

from __future__ import annotations

from dataclasses import dataclass, field

from properties import Inference
from synth.graph import Graph


@dataclass(frozen=True)
class Proof:
    """Why one program is an answer: what interpreting its whole jaxpr says, its distance to the target, and what it costs."""

    inference: Inference
    distance: float
    params: int
    macs: int
    peak_bytes: int = 0


@dataclass(frozen=True)
class Found:
    """Programs that meet the target, best first, each with its proof; and how many seconds they took together."""

    graphs: tuple[Graph, ...]
    proofs: tuple[Proof, ...]
    seconds: float
    optimal: bool = field(default=False)
    """Whether the first program is proven to be the cheapest one of the problem."""
    gap: float | None = field(default=None)
    """By what share of its value anything could be better than the first program; None where no bound is known."""
    value: float | None = field(default=None)
    """The first program's value by the objective that was optimised; None where that is the number of its parameters."""

    @property
    def graph(self) -> Graph:
        """The first program."""
        return self.graphs[0]


@dataclass(frozen=True)
class Infeasible:
    """No program of the problem meets its target: the smallest set of requirements that already exclude each other."""

    core: tuple[str, ...]
    seconds: float = 0.0

    def __str__(self) -> str:
        return "no program meets " + " together with ".join(self.core)


@dataclass(frozen=True)
class GaveUp:
    """The procedure stopped without an answer: neither a program nor a proof that there is none."""

    reason: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"gave up: {self.reason}"


Result = Found | Infeasible | GaveUp
