"""Evolution in property space: parents from the front of what errs as the seed as far as can be told; moves by what paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from alphanas.search.archive import ERROR, Archive, Member, tournament
from alphanas.search.change import changed, shares_of
from alphanas.search.paid import PRIOR_GAIN, Paid
from alphanas.search.proposal import Proposal
from alphanas.search.regions import Options

DRAWS = 3
"""Mutated targets of a region, from which one is chosen by what such changes were worth."""

UNKNOWN_NOISE = 0.005
"""The standard error of an archive that does not say its own."""


STARTS = 10
"""Members that a search with filled limits begins with, beside the seed: the seed scaled in depth, places and width by chance."""


@dataclass(frozen=True)
class Evolution:
    """Changes parents that won a tournament (front first, then crowding).

    With probability `focus` only members compete that err at most `reach` standard errors more than the seed, and errors up to
    `alike` standard errors above the seed's count as equal to it: a few hundred validation pictures do not tell them apart, and
    whoever breeds from the luckiest stays with large models. Among such members it is the smaller ones that are on the front.
    Where error is the only objective there is no such danger: those that err least win, of a share of all members; and the seed
    scaled as a whole makes the first ones, since what is good within the limits may be many small changes away from it.
    Moves, regions and changes of properties are drawn by what they were worth so far (`alphanas.search.paid`).
    """

    options: Options
    focus: float = 0.9
    reach: float = 2.5
    alike: float = 1.5
    size: int = 3
    share: float = 0.2

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        if self.options.fill and len(archive.members) <= STARTS:
            return changed(archive, rng, self.options, archive.seed, {"compound": 1.0})
        noise = archive.noise or UNKNOWN_NOISE
        paid = Paid.of(archive, self.reach * noise)
        if archive.objectives == (ERROR,):
            parent = tournament(archive, rng, size=max(self.size, round(self.share * len(archive.members))))
        else:
            pool = self._near(archive, noise) if rng.random() < self.focus else archive
            parent = tournament(pool, rng, size=self.size)
        learned = replace(
            self.options,
            draws=DRAWS,
            worth_of_nodes=_relative(paid.by(lambda member: member.origin.region)),
            worth_of_changes=_relative(paid.by(lambda member: member.origin.changes)),
        )
        return changed(archive, rng, learned, self._member(archive, parent), self._shares(paid))

    def _near(self, archive: Archive, noise: float) -> Archive:
        """The members that err at most a little more than the seed, all that cannot be told from it as erring the same."""
        return archive.nearly(self.reach * noise, self.alike * noise)

    def _shares(self, paid: Paid) -> Mapping[str, float]:
        """How often each move is made, by what its children were worth."""
        worth = paid.by(lambda member: (member.origin.kind,))
        return {kind: share * worth.get(kind, PRIOR_GAIN) for kind, share in shares_of(self.options).items()}

    def _member(self, archive: Archive, found: Member) -> Member:
        return next(member for member in archive.members if member.id == found.id)


def _relative(worth: Mapping[str, float]) -> Mapping[str, float]:
    return {name: value / PRIOR_GAIN for name, value in worth.items()}
