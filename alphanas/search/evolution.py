"""Evolution in property space: parents from the Pareto front of what is nearly as accurate as the seed, moves by what has paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alphanas.search.archive import Archive, Member, tournament
from alphanas.search.change import SHARES, changed
from alphanas.search.moves import Options
from alphanas.search.proposal import Proposal

ERROR = "error"


@dataclass(frozen=True)
class Evolution:
    """Changes parents that won a tournament (front first, then crowding).

    With probability `focus` only members compete whose error is at most the seed's plus `slack`, with fronts and crowding among
    themselves: small models that err much are on the front of everything, and lead nowhere. Each move is made in proportion to its
    share and to how often it has paid, by Laplace's rule: its child was smaller, and erred little more than its parent or the seed.
    """

    options: Options
    focus: float = 0.85
    slack: float = 0.015

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        parent = tournament(self._near(archive) if rng.random() < self.focus else archive, rng)
        return changed(archive, rng, self.options, parent, self._shares(archive))

    def _near(self, archive: Archive) -> Archive:
        """The members that err at most a little more than the seed, as an archive of their own."""
        if ERROR not in archive.objectives:
            return archive
        bar = archive.values(ERROR)[0] + self.slack
        members = zip(archive.members, archive.values(ERROR), strict=True)
        return Archive(archive.objectives, tuple(member for member, error in members if error <= bar))

    def _shares(self, archive: Archive) -> Mapping[str, float]:
        """How often each move is made, by what became of the children that it made."""
        by_id = {member.id: member for member in archive.members}
        paid = {kind: [1.0, 2.0] for kind in SHARES}
        for member in archive.members:
            parent = by_id.get(member.parent) if member.parent is not None else None
            if parent is None or member.kind not in paid:
                continue
            paid[member.kind][0] += self._paid(archive, member, parent)
            paid[member.kind][1] += 1
        return {kind: SHARES[kind] * successes / tries for kind, (successes, tries) in paid.items()}

    def _paid(self, archive: Archive, child: Member, parent: Member) -> bool:
        if ERROR not in archive.objectives:
            return any(mine < theirs for mine, theirs in zip(child.objectives, parent.objectives, strict=True))
        at = archive.objectives.index(ERROR)
        smaller = any(mine < theirs for mine, theirs in zip(child.objectives, parent.objectives, strict=True))
        return smaller and child.objectives[at] <= max(parent.objectives[at], archive.seed.objectives[at]) + self.slack
