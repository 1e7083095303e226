"""From a move on a parent to a proposal."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping

import numpy as np

from alphanas.search.archive import Archive, Member
from alphanas.search.kept import lost
from alphanas.search.limited import sized_within
from alphanas.search.moves import MOVES
from alphanas.search.proposal import Failure, New, Proposal
from alphanas.search.regions import Options
from synth import Graph
from synth.canonical import canonical, collapsible

SHARES: Mapping[str, float] = {
    "region": 0.5,
    "width": 0.35,
    "resize": 0.15,
    "drop": 0.15,
    "rewire": 0.1,
    "leap": 0.5,
    "duplicate": 0.03,
    "insert": 0.03,
}
"""How often each move is made where nothing is known about what pays: more than one in four goes several steps at once."""

FILLING: Mapping[str, float] = {"shallower": 0.4, "pool": 0.2}
"""The same for moves that are made only where children fill their limits: depth is exchanged for width, width for places."""


def shares_of(options: Options) -> Mapping[str, float]:
    """How often each move is made in such a search before anything is known."""
    return {**SHARES, **FILLING} if options.fill else SHARES


def changed(
    archive: Archive, rng: np.random.Generator, options: Options, parent: Member, shares: Mapping[str, float] | None = None
) -> Proposal:
    """The proposal that a move, drawn by its share, makes of a parent, within the limits; a failure if its graph is not new."""
    started = time.monotonic()
    shares = shares_of(options) if shares is None else shares
    kinds, weights = list(shares), np.array(list(shares.values()))
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    made = MOVES[kind](parent.graph, rng, options)
    answer, changes = made.answer, made.changes
    if isinstance(answer, New):
        child, resizes = sized_within(answer.graph, rng, options, archive.seed.graph)
        answer, changes = New(child), (*changes, *resizes)
    if isinstance(answer, New) and not options.property_mutation:
        missing = lost(parent.graph, answer.graph, options.properties)
        answer = Failure("property_lost", "; ".join(missing)) if missing else answer
    if isinstance(answer, New):
        repeats = archive.repeats(answer.graph)
        answer = New(canonical(answer.graph)) if repeats is None else Failure("duplicate", repeats)
    wasteful = _wasteful(answer.graph) - _wasteful(parent.graph) if isinstance(answer, New) else frozenset()
    seconds = time.monotonic() - started
    return Proposal(parent.id, kind, made.region, changes, answer, made.method, seconds, tuple(sorted(wasteful)))


@functools.lru_cache(maxsize=1024)
def _wasteful(graph: Graph) -> frozenset[tuple[str, str]]:
    return frozenset((pair.first, pair.last) for pair in collapsible(graph) if not pair.factored)
