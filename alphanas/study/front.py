"""A Pareto front that follows a growing study: what is new is compared with the front, never all with all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alphanas.study.pareto import pareto_front

if TYPE_CHECKING:
    from alphanas.study.study import Study


class Front:
    """The ids on the front of some objectives, as of the last `follow`; none that breaks a constraint."""

    def __init__(self, names: Sequence[str]) -> None:
        self.ids: tuple[int, ...] = ()
        self._names = tuple(names)
        self._points: dict[int, list[float]] = {}
        self._mark = 0

    def follow(self, study: Study) -> None:
        """Takes in what the study learned."""
        self._mark, changed = study.news(self._mark)
        before = {one.id: self._points.get(one.id) for one in changed}
        for one in changed:
            numbers = [one.objective(name) for name in self._names]
            known = [float(number) for number in numbers if number is not None]
            if len(known) == len(numbers) and one.excess == 0:
                self._points[one.id] = known
            else:
                self._points.pop(one.id, None)
        # A point that moved may have hidden others; a new one hides only itself or points of the front.
        moved = any(old is not None and old != self._points.get(one) for one, old in before.items())
        asked = sorted(self._points if moved else {*self.ids, *before} & self._points.keys())
        self.ids = tuple(asked[index] for index in pareto_front([self._points[one] for one in asked]))
