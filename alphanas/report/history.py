"""How the search went: the hypervolume of the front over time, and which kinds of change paid."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from alphanas.report.line import steps_plot
from alphanas.report.lineage import changes_of
from alphanas.report.markup import percent, table

if TYPE_CHECKING:
    from alphanas.study import Candidate, Study

ROOM = 0.02
"""The reference point errs by this share more than the seed, or twice as much, whichever is more."""


def story(study: Study) -> str:
    """The curve of the hypervolume and the table of changes; nothing where nothing was trained."""
    return growth(study) + paid(study)


def growth(study: Study) -> str:
    """The hypervolume over the number of candidates trained."""
    points = hypervolumes(study)
    if len(points) < 2:
        return ""
    names = ", ".join(study.config.get("search", {}).get("objectives", ()))
    note = (
        f"<p>Hypervolume of the front over {html.escape(names)}, as a share of the box between zero and the reference point: the "
        f"seed's sizes, and twice the seed's error or {100 * ROOM:.0f} points more, whichever is more.</p>"
    )
    return note + steps_plot([(float(count), value) for count, value in points], x_name="candidates trained", y_name="hypervolume")


def hypervolumes(study: Study) -> list[tuple[int, float]]:
    """(candidates trained, hypervolume as a share of the reference box), where it grew, and at the end."""
    from alphanas.study.pareto import hypervolume, pareto_front

    names: Sequence[str] = tuple(study.config.get("search", {}).get("objectives", ())) or ("error", "params", "macs")
    rows = [(one, [one.objective(name) for name in names]) for one in study.candidates()]
    known = [(one.id, [float(value) for value in values if value is not None]) for one, values in rows]
    known = [(number, values) for number, values in known if len(values) == len(names)]
    seed = next((values for number, values in known if number == 0), None)
    if seed is None or any(value <= 0 for name, value in zip(names, seed, strict=True) if name != "error"):
        return []
    corner = [max(2 * value, value + ROOM) if name == "error" else value for name, value in zip(names, seed, strict=True)]
    grown: list[tuple[int, float]] = []
    front: list[list[float]] = []
    for count, (_, values) in enumerate(known):
        shares = [value / limit for value, limit in zip(values, corner, strict=True)]
        if any(all(a <= b for a, b in zip(other, shares, strict=True)) for other in front):
            continue
        front = [[*front, shares][index] for index in pareto_front([*front, shares])]
        volume = hypervolume(front, [1.0 + 1e-9] * len(names))
        if not grown or volume > grown[-1][1]:
            grown.append((count, volume))
    if grown and grown[-1][0] < len(known) - 1:
        grown.append((len(known) - 1, grown[-1][1]))
    return grown


def paid(study: Study) -> str:
    """Kinds of change and the properties that they changed: how often, how often a program was found, and what came of it."""
    groups: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for one in study.candidates():
        if one.parent is None:
            continue
        kind = str(one.proposal.get("kind", "")) or (one.method or "change")
        # "width at a, b" names the place too: what paid is the kind.
        for name in dict.fromkeys(change[0].partition(" at ")[0] for change in changes_of(one.proposal)) or ("nothing",):
            groups[kind, name].append(one)
    if not groups:
        return ""
    fronts = {one.id for one in study.pareto()}
    rows = sorted((_row(kind, name, members, fronts) for (kind, name), members in groups.items()), key=lambda row: -row[-1])
    columns = ("change", "property changed", "proposed", "found", "trained", "parameters", "error", "on the front")
    note = (
        '<p class="soft">Parameters and error: medians against the parent, of what was trained; the error is that of the short '
        "training on the validation part.</p>"
    )
    return f"<h3>Changes that paid</h3>{note}{table(columns, rows, numbers=columns[2:])}"


def _row(kind: str, name: str, members: Sequence[Candidate], fronts: set[int]) -> tuple[Any, ...]:
    found = [one for one in members if one.graph_hash is not None]
    pairs = [(one, one.study.candidate(one.parent)) for one in found if one.error is not None and one.parent is not None]
    sizes = [one.params / parent.params for one, parent in pairs if one.params and parent.params]
    errors = [one.error - parent.error for one, parent in pairs if one.error is not None and parent.error is not None]
    smaller = f"× {median(sizes):.2f}" if sizes else "–"
    worse = f"{100 * median(errors):+.2f} points".replace("-", "−") if errors else "–"
    return kind, name, len(members), len(found), len(pairs), smaller, worse, sum(one.id in fronts for one in members)


def tip(one: Candidate) -> str:
    """What hovering over a candidate shows."""
    macs = "MACs not counted" if one.macs is None else f"{one.macs:,} MACs"
    size = "parameters not counted" if one.params is None else f"{one.params:,} parameters"
    lines = [f"candidate {one.id}", size, macs, f"validation error {percent(one.error) or 'not measured'}"]
    return "\n".join([*lines, *([f"test accuracy {percent(one.accuracy)}"] if one.accuracy is not None else [])])
