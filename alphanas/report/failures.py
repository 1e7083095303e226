"""What did not work: how many candidates got how far, and why the others did not."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alphanas.report.markup import Markup, table

if TYPE_CHECKING:
    from alphanas.study import Outcome, Study

FUNNEL = ("proposed", "synthesized", "duplicates", "scored", "rejected", "trained", "measured")


def overview(study: Study, counts: Mapping[str, Any]) -> str:
    """The funnel, and failures by stage and cause with an example each."""
    known = [name for name in FUNNEL if name in counts]
    largest = max([counts[name] for name in known] or [0])
    rows = [(name, counts[name], _bar(counts[name], largest)) for name in known]
    funnel = table(("candidates", "count", ""), rows, numbers=("count",))
    return funnel + failures(study)


def failures(study: Study) -> str:
    """Failures by stage and cause: how many, of which candidates, and what the first one said."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for candidate in study.candidates():
        for outcome in candidate.outcomes():
            if outcome.status in ("failed", "infeasible", "gave_up"):
                groups[outcome.stage, outcome.cause or outcome.status].append(outcome)
    if not groups:
        return "<p>Nothing failed.</p>"
    rows = []
    for (stage, cause), outcomes in sorted(groups.items(), key=lambda item: -len(item[1])):
        message = next((outcome.message for outcome in outcomes if outcome.message), None)
        ids = ", ".join(f"#{one}" for one in sorted({outcome.candidate for outcome in outcomes})[:6])
        more = " …" if len({outcome.candidate for outcome in outcomes}) > 6 else ""
        rows.append((cause, stage, len(outcomes), ids + more, _example(message)))
    return table(("cause", "stage", "how often", "candidates", "for example"), rows, numbers=("how often",))


def _bar(count: int, largest: int) -> Markup:
    width = 240 * count / largest if largest else 0
    style = "display:inline-block;height:10px;border-radius:2px;background:#9db7d1"
    return Markup(f'<i style="{style};width:{width:.0f}px"></i>')


def _example(message: str | None) -> Markup:
    if not message:
        return Markup("")
    text = message.strip()
    short = text if len(text) <= 160 else text[:159] + "…"
    if short == text and "\n" not in text:
        return Markup(html.escape(text))
    return Markup(
        f"<details><summary>{html.escape(short.splitlines()[0])}</summary><pre>{html.escape(text[:4000])}</pre></details>"
    )
