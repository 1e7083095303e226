"""What a search has learned: candidates with their objectives, all to be minimised, and all that was proposed."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alphanas.search.proposal import label
from alphanas.study.pareto import hypervolume
from synth import Graph, macs
from synth.canonical import canonical
from synth.equivalence import equivalent, signature
from synth.target import Change

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


ERROR = "error"
"""The objective that is measured on few pictures, and so with chance in it."""


@dataclass(frozen=True)
class Origin:
    """What made a candidate from its parent: the kind of move, the nodes that it replaced, and the labels of what it changed."""

    kind: str = "seed"
    region: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    @staticmethod
    def from_json(proposal: Mapping[str, Any]) -> Origin:
        """As a proposal's record says; what it does not say is left out."""
        told = [change for change in proposal.get("changes") or () if isinstance(change, Mapping)]
        changes = [Change(*(str(change.get(key, "")) for key in ("property", "before", "after"))) for change in told]
        return Origin(
            str(proposal.get("kind", "seed")),
            tuple(str(name) for name in proposal.get("region") or ()),
            tuple(dict.fromkeys(map(label, changes))),
        )


@dataclass(frozen=True)
class Member:
    """A judged candidate: its graph, its objectives in the archive's order, and where it came from."""

    id: int
    graph: Graph
    objectives: tuple[float, ...]
    parent: int | None = None
    origin: Origin = Origin()
    excess: float = 0.0
    """By how much it breaks the search's constraints; 0 if it breaks none."""


@dataclass(frozen=True)
class Proposed:
    """A candidate's graph, with what it is recognised by."""

    id: int
    graph: Graph

    @functools.cached_property
    def hash(self) -> str:
        """The hash of its canonical form."""
        return canonical(self.graph).hash

    @functools.cached_property
    def signature(self) -> tuple[object, ...]:
        """What programs that compute the same have in common."""
        return signature(self.graph)


@dataclass(frozen=True)
class Archive:
    """The members of a search, the seed model first, and what was proposed before.

    Raises ValueError for objectives that do not fit. A member whose objectives are not all finite has no place here: it failed.
    """

    objectives: tuple[str, ...]
    members: tuple[Member, ...]
    proposed: tuple[Proposed, ...] = ()
    """Every graph that was proposed, judged or not: a proposal that equals one of these is a duplicate."""
    noise: float = 0.0
    """The standard error of the members' error: what differs by less may not differ at all."""

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("an archive wants at least the seed model")
        wrong = [member.id for member in self.members if len(member.objectives) != len(self.objectives)]
        if wrong or not np.isfinite(self.points).all():
            raise ValueError(
                f"members have one finite number for each of {', '.join(self.objectives)}; wrong are {wrong or self.points}"
            )

    @property
    def seed(self) -> Member:
        """The model that the search started from."""
        return self.members[0]

    @functools.cached_property
    def points(self) -> Matrix:
        """The objectives, one row for each member."""
        return np.array([member.objectives for member in self.members], np.float64).reshape(len(self.members), -1)

    @functools.cached_property
    def ranks(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The front that each member is on, 0 for the best; those that break constraints come after, by how much (Deb, 2000)."""
        found = np.zeros(len(self.members), np.int64)
        excess = np.array([member.excess for member in self.members])
        kept = np.flatnonzero(excess == 0)
        found[kept] = ranks(self.points[kept])
        beyond = np.flatnonzero(excess > 0)
        found[beyond] = 1 + found[kept].max(initial=-1) + np.searchsorted(np.unique(excess[beyond]), excess[beyond])
        return found

    @functools.cached_property
    def crowding(self) -> Vector:
        """How far each member is from its neighbours on its front; larger is lonelier."""
        distances = np.zeros(len(self.members))
        for rank in range(int(self.ranks.max()) + 1):
            front = np.flatnonzero(self.ranks == rank)
            distances[front] = crowding(self.points[front])
        return distances

    @property
    def front(self) -> tuple[Member, ...]:
        """The members that no other dominates; the one that breaks constraints least where all do."""
        return tuple(member for member, rank in zip(self.members, self.ranks, strict=True) if rank == 0)

    @property
    def hypervolume(self) -> float:
        """The share of the box between nothing and the seed that the front dominates, errors up to twice the seed's.

        Each objective counts in units of the seed's own; only members that break no constraint count.
        """
        seed = np.asarray(self.seed.objectives)
        scale = np.where(seed == 0, 1.0, np.abs(seed))
        if ERROR in self.objectives:
            at = self.objectives.index(ERROR)
            scale[at] = max(self.seed.objectives[at], self.noise) or 1.0
        corner = np.array([2.0 if name == ERROR else 1.0 for name in self.objectives])
        front = [member.objectives for member in self.front if member.excess == 0]
        points = np.maximum(1.0 + (np.array(front).reshape(-1, len(seed)) - seed) / scale, 0.0)
        return hypervolume(points.tolist(), corner.tolist()) / float(corner.prod())

    def least_error(self, others: Mapping[str, float]) -> float | None:
        """The least error of a member that is no worse in these objectives and breaks no constraint; None if there is none."""
        if ERROR not in self.objectives:
            return None
        places = [self.objectives.index(name) for name in others]
        able = np.array([member.excess == 0 for member in self.members])
        able &= (self.points[:, places] <= np.array(list(others.values()))).all(1)
        return float(self.values(ERROR)[able].min()) if able.any() else None

    def values(self, objective: str) -> Vector:
        """One objective of all members; ValueError if the archive does not have it."""
        return self.points[:, self.objectives.index(objective)]

    def nearly(self, reach: float, alike: float) -> Archive:
        """The members whose error exceeds the bar by at most `reach`, and of these all up to `alike` as erring the same.

        The bar is the seed's error. Members that break constraints are left out while others do not; where none of these comes up
        to the seed, the bar is the best of them. The archive itself if error is no objective.
        """
        if ERROR not in self.objectives:
            return self
        at = self.objectives.index(ERROR)
        able = [one for one in self.members if one.excess == 0] or self.members
        bar = max(self.seed.objectives[at], min(one.objectives[at] for one in able))
        near = [one for one in able if one.objectives[at] <= bar + reach]
        return replace(self, members=tuple(_erring(one, at, max(one.objectives[at], bar + alike)) for one in near), proposed=())

    def knowing(self, proposed: Iterable[Proposed]) -> Archive:
        """The same archive, which also knows these candidates."""
        return replace(self, proposed=(*self.proposed, *proposed))

    def repeats(self, graph: Graph) -> str | None:
        """Why a graph is not worth judging again, or None.

        One of the same canonical form was proposed before, or one that computes the same (`synth.equivalence`) and costs no more.
        """
        twin = self._by_hash.get(canonical(graph).hash)
        if twin is not None:
            return f"has the canonical form of #{twin}"
        for other in self._by_signature.get(signature(graph), ()):
            if macs(other.graph) <= macs(graph) and equivalent(other.graph, graph):
                return f"computes the same as #{other.id}, on random inputs with weights matched by shape and order"
        return None

    @functools.cached_property
    def _everything(self) -> tuple[Proposed, ...]:
        told = {each.id for each in self.proposed}
        return (*self.proposed, *(Proposed(each.id, each.graph) for each in self.members if each.id not in told))

    @functools.cached_property
    def _by_hash(self) -> dict[str, int]:
        return {each.hash: each.id for each in reversed(self._everything)}

    @functools.cached_property
    def _by_signature(self) -> dict[tuple[object, ...], list[Proposed]]:
        found: dict[tuple[object, ...], list[Proposed]] = {}
        for each in self._everything:
            found.setdefault(each.signature, []).append(each)
        return found


def _erring(member: Member, at: int, error: float) -> Member:
    return replace(member, objectives=(*member.objectives[:at], error, *member.objectives[at + 1 :]))


def ranks(points: Matrix) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Non-dominated sorting (Deb et al., 2002): the index of the front of each point; equal points share a front."""
    found = np.full(len(points), -1, np.int64)
    left, rank = np.arange(len(points)), 0
    while len(left):
        best = _undominated(points[left])
        found[left[best]] = rank
        left, rank = left[~best], rank + 1
    return found


def _undominated(points: Matrix) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which points no other point dominates. A point that dominates another comes before it in lexicographic order."""
    order = np.lexsort(points.T[::-1])
    best = np.zeros(len(points), np.bool_)
    front: list[Vector] = []
    for index in order:
        here = points[index]
        dominated = bool(front) and bool(_dominates(np.array(front), here).any())
        if not dominated:
            best[index] = True
            front.append(here)
    return best


def _dominates(rows: Matrix, point: Vector) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray((rows <= point).all(1) & (rows < point).any(1))


def crowding(points: Matrix) -> Vector:
    """The sum over objectives of the distance between a point's two neighbours, as a share of the range; infinite at the ends."""
    distances = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distances[order[[0, -1]]] = np.inf
        if span > 0:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distances


def tournament(archive: Archive, rng: np.random.Generator, *, among: Sequence[int] | None = None, size: int = 2) -> Member:
    """The best of `size` members drawn at random (by index, from `among` if given): lower front first, then the lonelier one."""
    pool = np.arange(len(archive.members)) if among is None else np.asarray(among)
    drawn = rng.choice(pool, size=size)
    winner = min(drawn.tolist(), key=lambda index: (archive.ranks[index], -archive.crowding[index]))
    return archive.members[winner]
