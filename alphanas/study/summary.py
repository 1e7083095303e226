"""summary.json of a study."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphanas.study.study import Study

SEED = 0


def summary(study: Study) -> dict[str, Any]:
    """`status`, `counts`, `seed`, `best`, `pareto`, `cascade`, `hypervolume`, `environment`; what was not measured is null.

    `cascade` is a list of the stages, each with its rank correlation with the next one; `hypervolume` of the front after each
    generation, as a share of the box between nothing and the seed, errors up to twice the seed's.
    """
    candidates = study.candidates()
    seed = candidates[0] if candidates and candidates[0].id == SEED else None
    return {
        "status": study.status(),
        "counts": counts(study),
        "seed": None if seed is None else seed.summary(),
        "best": study.best().summary() if candidates else None,
        "pareto": [candidate.summary() for candidate in study.pareto()],
        "cascade": cascade(study),
        "hypervolume": hypervolumes(study),
        "environment": dict(study.environment),
    }


def cascade(study: Study) -> list[dict[str, Any]]:
    """The stages as they were logged last; empty before the first generation is through."""
    told = study.decisions("cascade")
    rows = told[-1].payload.get("stages") if told else None
    return [dict(row) for row in rows] if isinstance(rows, list) else []


def hypervolumes(study: Study) -> list[dict[str, Any]]:
    """`generation`, `candidates` (proposed so far) and `value` after each generation; null where it was not computed."""
    return [
        {
            "generation": entry.payload.get("number"),
            "candidates": max(entry.payload.get("ids") or [0]),
            "value": entry.payload.get("hypervolume"),
        }
        for entry in study.decisions("generation")
    ]


def counts(study: Study) -> dict[str, Any]:
    """Candidates that got through each stage, and failures by cause; the seed model is not counted."""
    candidates = [candidate for candidate in study.candidates() if candidate.id != SEED]
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    rejected = 0
    for candidate in candidates:
        outcomes = candidate.outcomes()
        passed.update({outcome.stage for outcome in outcomes if outcome.ok})
        failed.update(
            outcome.cause or outcome.status for outcome in outcomes if outcome.status in ("failed", "infeasible", "gave_up")
        )
        rejected += any(outcome.status == "rejected" for outcome in outcomes)
    return {
        "proposed": len(candidates),
        "synthesized": passed["synthesis"],
        "duplicates": sum(candidate.status == "duplicate" for candidate in candidates),
        "scored": sum(bool(candidate.outcomes("score")) for candidate in candidates) - _failed_in(study, "score"),
        "rejected": rejected,
        "trained": sum(any(outcome.ok for outcome in (*one.outcomes("short"), *one.outcomes("full"))) for one in candidates),
        "measured": passed["measure"],
        "failed": dict(sorted(failed.items())),
    }


def _failed_in(study: Study, stage: str) -> int:
    others = [candidate for candidate in study.candidates() if candidate.id != SEED]
    return sum(any(outcome.status == "failed" for outcome in one.outcomes(stage)) for one in others)
