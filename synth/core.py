"""The smallest set of requirements that exclude each other.

By minimal hitting sets (Ignatiev, Previti, Liffiton and Marques-Silva, Smallest MUS extraction, 2015): whatever is excluded has a
part of the complement of every set that is not, so the smallest set that hits all those complements is a core once it is excluded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

Part = TypeVar("Part")


def smallest_core(
    parts: Sequence[Part], excluded: Callable[[list[Part]], bool], *, is_late: Callable[[], bool] = lambda: False
) -> list[Part]:
    """A smallest list of parts, in their order, that `excluded` says cannot be met together.

    `excluded` must hold for all parts, and for whatever contains what it holds for. Where it errs by not holding, or `is_late`
    comes true, the answer may be larger than need be: the parts that remain when one after the other is left out, or all.
    """
    found = _minimal(parts, excluded, is_late)
    missed: list[set[int]] = []
    while not is_late():
        hitting = _smallest_hitting(len(parts), missed, less_than=len(found))
        if hitting is None:
            return found
        chosen = [parts[index] for index in hitting]
        if excluded(chosen):
            return chosen
        missed.append(set(range(len(parts))) - _grown(parts, set(hitting), excluded, is_late))
    return found


def _minimal(parts: Sequence[Part], excluded: Callable[[list[Part]], bool], is_late: Callable[[], bool]) -> list[Part]:
    kept = list(range(len(parts)))
    for index in range(len(parts)):
        rest = [other for other in kept if other != index]
        if is_late():
            break
        if excluded([parts[other] for other in rest]):
            kept = rest
    return [parts[index] for index in kept]


def _smallest_hitting(count: int, missed: Sequence[set[int]], *, less_than: int) -> tuple[int, ...] | None:
    """A smallest choice with a member of every set, if there is one of fewer than so many."""
    sizes = (itertools.combinations(range(count), size) for size in range(less_than))
    choices = itertools.chain.from_iterable(sizes)
    return next((choice for choice in choices if all(not each.isdisjoint(choice) for each in missed)), None)


def _grown(parts: Sequence[Part], kept: set[int], excluded: Callable[[list[Part]], bool], is_late: Callable[[], bool]) -> set[int]:
    """As many parts as are not excluded together with those that are kept, one after the other."""
    for index in range(len(parts)):
        if index not in kept and not is_late() and not excluded([parts[other] for other in sorted(kept | {index})]):
            kept = kept | {index}
    return kept
