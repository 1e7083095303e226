"""The stages that judged candidates: what each cost, how many it turned away, and how well it ranked what came next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alphanas.report.markup import Markup, table

if TYPE_CHECKING:
    from alphanas.study import Study

COLUMNS = ("stage", "what it does", "seconds", "candidates", "turned away", "ranks", "Kendall's tau", "Spearman's rho", "pairs", "")


def story(study: Study) -> str:
    """The table of stages; nothing before the first generation is through."""
    rows = study.summary()["cascade"]
    if not rows:
        return ""
    note = (
        "<p>From cheap to costly. The correlation is of a stage's numbers with those of the next, over the candidates that have "
        "both, with a 95% interval; a stage that turns candidates away and does not rank the next one is switched off.</p>"
    )
    return note + table(COLUMNS, [_row(row) for row in rows], numbers=COLUMNS[2:5] + COLUMNS[6:9])


def _row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    found = row.get("correlation") or {}
    off = row.get("switched_off")
    nothing = Markup("")
    return (
        row["stage"],
        row["cost"],
        row["seconds"],
        row["candidates"],
        nothing if row["turned_away"] is None else row["turned_away"],
        row["next"] or nothing,
        _tau(found) if row["next"] else nothing,
        found.get("spearman_rho") if row["next"] else nothing,
        found.get("n", 0) if row["next"] else nothing,
        nothing if off is None else f"switched off from generation {off}",
    )


def _tau(found: Mapping[str, Any]) -> str | None:
    tau, low, high = (found.get(key) for key in ("kendall_tau", "low", "high"))
    if tau is None:
        return None
    return f"{tau:.2f}" if low is None or high is None else f"{tau:.2f} ({low:.2f} to {high:.2f})"
