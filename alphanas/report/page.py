"""One candidate as a page: its figures beside its parent's, its graph, where it came from, and what every stage said."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from alphanas.report import lineage, models
from alphanas.report.markup import Markup, percent, table

if TYPE_CHECKING:
    from alphanas.study import Candidate, Study


def candidate_html(study: Study, number: int, *, script: str = "") -> str:
    """The whole page, with a script where it is to be live; UserError if the study has no such candidate."""
    from alphanas.report.html import document, section

    one = study.candidate(number)
    title = f"Candidate {one.id}" + (" (the seed)" if one.id == 0 else "")
    made = "the user's model" if one.parent is None else f"made from #{one.parent}"
    intro = f"study {study.folder.resolve().name} · {made} · generation {one.generation} · {one.status}"
    head = f'<header><h1>{html.escape(title)}</h1><p class="soft">{html.escape(intro)}</p></header>'
    seed = study.seed()
    compared = ((one,), ("seed",)) if one.id == seed.id else ((seed, one), ("seed", f"#{one.id}"))
    body = head + models.figures(*compared)
    if one.graph_hash is not None:
        body += section("Program", models.drawing(one, "Graph", _new(one)) + models.opaque(models.graph_of(one)))
    body += section("How it came about", lineage.story_of(one))
    body += section("What the stages said", outcomes(one))
    body += section("Children", children(study, one))
    return document(f"alphanas: {title}", body, script=script)


def outcomes(one: Candidate) -> str:
    """Every outcome with its numbers."""
    rows: list[tuple[Any, ...]] = []
    for outcome in one.outcomes():
        numbers = ", ".join(f"{name} {lineage.value_text(value)}" for name, value in outcome.values.items())
        took = None if outcome.started is None or outcome.ended is None else f"{outcome.ended - outcome.started:.1f} s"
        said = Markup(f"<details><summary>{len(outcome.values)} values</summary>{html.escape(numbers)}</details>")
        told = outcome.cause or ""
        rows.append((outcome.stage, outcome.discriminator, outcome.status, told, took or "", said if outcome.values else ""))
    return table(("stage", "", "status", "cause", "time", "values"), rows, numbers=("time",)) if rows else ""


def children(study: Study, one: Candidate) -> str:
    """What was made from it."""
    made = [other for other in study.candidates() if other.parent == one.id and other.id != one.id]
    rows = [
        (f"#{other.id}", str(other.proposal.get("kind", "")), other.status, other.params, percent(other.error)) for other in made
    ]
    columns = ("candidate", "change", "status", "parameters", "validation error")
    return table(columns, rows, numbers=columns[3:]) if rows else ""


def _new(one: Candidate) -> frozenset[str]:
    """What its parent does not have."""
    if one.parent is None or one.parent == one.id:
        return frozenset()
    return models.changed(models.graph_of(one.study.candidate(one.parent)), models.graph_of(one))[1]
