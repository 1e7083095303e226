"""The family of the Pareto front as a tree: who was made from whom, by generation."""

from __future__ import annotations

import html
from collections import defaultdict
from typing import TYPE_CHECKING

from alphanas.report.history import tip
from alphanas.report.plot import BEST, FRONT, OTHER, SEED, SOFT

if TYPE_CHECKING:
    from alphanas.study import Candidate, Study

MOST = 80
"""Candidates drawn at most: the front is thinned evenly by size where it and its ancestors are more."""
ROW, TOP, LEFT, RIGHT, WIDTH = 30, 24, 30, 60, 1180


def family(study: Study) -> str:
    """The tree of the front and all its ancestors; nothing where nothing was made from anything."""
    if not study.candidates():
        return ""
    best = study.best()
    members = _members(study, best)
    if len(members) < 2:
        return ""
    children: dict[int | None, list[int]] = defaultdict(list)
    for one in members.values():
        children[one.parent].append(one.id)
    depth, rows = _layout(children)
    deepest = max(depth.values()) or 1
    height = TOP + ROW * (max(rows.values()) + 1) + 12

    def place(number: int) -> tuple[float, float]:
        return LEFT + depth[number] / deepest * (WIDTH - LEFT - RIGHT), TOP + ROW * rows[number]

    fronts = {one.id for one in study.pareto()}
    lines, dots = [], []
    kept = {one.id for one in best.lineage()}
    for number, one in members.items():
        x, y = place(number)
        kind = SEED if number == 0 else BEST if number == best.id else FRONT if number in fronts else OTHER
        if one.parent in members:
            color, width = (BEST.color, 2) if number in kept else ("#cbd5e1", 1.2)
            curve = _curve(place(int(one.parent or 0)), (x, y))
            lines.append(f'<path d="{curve}" stroke="{color}" stroke-width="{width}" fill="none"/>')
        about = f'data-tip="{html.escape(tip(one))}" data-candidate="{number}"'
        dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{kind.color}" {about}/>')
        dots.append(f'<text x="{x - 4:.1f}" y="{y - 8:.1f}" fill="{SOFT}">#{number}</text>')
    picture = (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'style="max-width:100%;height:auto;font-size:11px" role="img">{"".join(lines + dots)}</svg>'
    )
    count = len(members)
    note = f'<p class="soft">The Pareto front and its ancestors ({count} candidates), the seed on the left, one step a column.</p>'
    return f"<h3>Family of the front</h3>{note}<figure>{picture}</figure>"


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    """From a parent's dot to its child's, level at both ends."""
    middle = (start[0] + end[0]) / 2
    return f"M{start[0]:.1f} {start[1]:.1f}C{middle:.1f} {start[1]:.1f} {middle:.1f} {end[1]:.1f} {end[0]:.1f} {end[1]:.1f}"


def _members(study: Study, best: Candidate) -> dict[int, Candidate]:
    """The best's line, and those of as many of the front as there is room for."""
    front = sorted(study.pareto(), key=lambda one: (one.params or 0, one.id))
    step = 1
    while True:
        members = {one.id: one for chosen in (best, *front[::step]) for one in chosen.lineage()}
        if len(members) <= MOST or step >= len(front):
            return dict(sorted(members.items()))
        step += 1


def _layout(children: dict[int | None, list[int]]) -> tuple[dict[int, int], dict[int, int]]:
    """(steps from the root, row) of every member: leaves take rows in order, parents the row of their first child."""
    depth: dict[int, int] = {}
    rows: dict[int, int] = {}
    stack = [(number, 0) for number in reversed(children[None])]
    row = 0
    while stack:
        number, steps = stack.pop()
        depth[number], rows[number] = steps, row
        if not children[number]:
            row += 1
        stack += [(child, steps + 1) for child in reversed(children[number])]
    return depth, rows
