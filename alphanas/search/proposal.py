"""Proposals: what a strategy wants judged, and why; or why it found nothing to judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from synth import Graph
from synth.target import Change

Cause = Literal["infeasible", "gave_up", "unfit", "duplicate", "nothing_to_change", "property_lost"]


@dataclass(frozen=True)
class New:
    """A graph that was never proposed before and has the seed's inputs and outputs."""

    graph: Graph


@dataclass(frozen=True)
class Failure:
    """No new graph, and why: synthesis proved that there is none, or gave up; the rest of the network does not fit what was made;
    it was proposed before; or the parent has nothing of the kind to change."""

    cause: Cause
    message: str = ""


Answer = New | Failure


def label(change: Change) -> str:
    """A change in a word that many share: the property, and where its bound is a number whether that went up or down."""
    before, after = _number(change.before), _number(change.after)
    if change.property != "depth" or before is None or after is None:
        return change.property.split(" ")[0]
    return f"{change.property} {'up' if after > before else 'down'}"


def _number(text: str) -> int | None:
    last = text.rpartition(" ")[2]
    return int(last) if last.isdigit() else None


@dataclass(frozen=True)
class Proposal:
    """A change of one candidate: the parent's id, the nodes replaced, the properties changed, and what came of it."""

    parent: int
    kind: str
    region: tuple[str, ...]
    changes: tuple[Change, ...]
    answer: Answer
    method: str = ""
    seconds: float = 0.0
    collapsible: tuple[tuple[str, str], ...] = ()
    """Pairs of layers, new here, with nothing non-linear between them, that cost more than the one map they make."""

    @property
    def graph(self) -> Graph | None:
        """The new graph, if there is one."""
        return self.answer.graph if isinstance(self.answer, New) else None

    def to_json(self) -> dict[str, Any]:
        """All but the graph, for the record: JSON-able."""
        failure = self.answer if isinstance(self.answer, Failure) else None
        return {
            "parent": self.parent,
            "kind": self.kind,
            "region": list(self.region),
            "changes": [{"property": change.property, "before": change.before, "after": change.after} for change in self.changes],
            "method": self.method,
            "seconds": self.seconds,
            "collapsible": [list(pair) for pair in self.collapsible],
            "cause": failure.cause if failure else None,
            "message": failure.message if failure else "",
        }

    def __str__(self) -> str:
        changed = "; ".join(map(str, self.changes)) or "nothing"
        return f"{self.kind} of #{self.parent} at {', '.join(self.region) or 'the whole'}: {changed}"
