"""Seed and best side by side: their figures, and drawings in which what differs is marked."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alphanas.errors import UserError
from alphanas.report.markup import (
    Markup,
    accuracy_text,
    conditions_text,
    faster_markup,
    latency_text,
    over_seeds,
    points,
    ratio_text,
    table,
)

if TYPE_CHECKING:
    from alphanas.study import Candidate, Study
    from synth import Graph


def side_by_side(study: Study) -> str:
    """A table of figures and the two drawings."""
    if not study.candidates():
        return ""
    seed, best = study.seed(), study.best()
    if best.id == seed.id:
        return figures((seed,), ("seed",)) + drawing(seed, "Seed", frozenset()) + opaque(graph_of(seed))
    graphs = graph_of(seed), graph_of(best)
    gone, new = changed(*graphs)
    note = (
        '<p class="soft">A box is an op with the norms and activations after it; on its right are its shape and its number of '
        "parameters, and the blue bar is its share of all parameters. Violet lines go around boxes. Orange: what the search took "
        "out of the seed, and what it put into the best.</p>"
    )
    pictures = drawing(seed, "Seed", gone) + drawing(best, f"Best (#{best.id})", new)
    return f'{figures((seed, best), ("seed", f"best #{best.id}"))}{note}<div class="pair">{pictures}</div>{opaque(graphs[0])}'


def figures(models: tuple[Candidate, ...], names: tuple[str, ...]) -> str:
    """The figures of one or two models by their names, one a row."""
    facts = [one.summary() for one in models]
    rows: list[tuple[Any, ...]] = []
    for name, key in (("parameters", "params"), ("multiply-adds (MACs) of one input", "macs")):
        rows.append((name, *_pair([fact[key] for fact in facts], "fewer", "more")))
    peaks = [one.values("cost").get("peak_bytes") for one in models]
    if any(peak is not None for peak in peaks):
        rows.append(("largest live activations, bytes", *_pair(peaks, "less", "more")))
    rows.append(
        ("test accuracy", *[accuracy_text(fact["accuracy"]) for fact in facts], *([_gain(facts)] if len(facts) > 1 else []))
    )
    stage = "full" if all(one.accuracies("full") for one in models) else "short"
    validation = [accuracy_text(over_seeds(one.accuracies(stage))) for one in models]
    rows.append((f"validation accuracy after the {stage} training", *validation, *([""] if len(facts) > 1 else [])))
    rows += latencies(models)
    columns = ("", *names, *(("change",) if len(models) > 1 else ()))
    return table(columns, rows, numbers=columns[1:])


def latencies(models: tuple[Candidate, ...]) -> list[tuple[Any, ...]]:
    """One row for every set of conditions that a latency was measured under."""
    measured: list[dict[str, Mapping[str, Any]]] = []
    for one in models:
        passed = [outcome.values for outcome in one.outcomes("measure") if outcome.ok]
        measured.append({conditions_text(values): values for values in passed})
    names = list(dict.fromkeys(name for table in measured for name in table))
    if not names:
        return [("latency", *[None for _ in models], *([""] if len(models) > 1 else []))]
    rows: list[tuple[Any, ...]] = []
    for name in names:
        values = [table.get(name) for table in measured]
        cells = [latency_text(value, digits=4) for value in values]
        change = [faster_markup((values[1] or {}).get("ratio_to")) or ""] if len(models) > 1 else []
        rows.append((Markup(f"latency<br><span class='soft'>{html.escape(name)}</span>"), *cells, *change))
    return rows


def drawing(candidate: Candidate, title: str, marked: frozenset[str]) -> str:
    """A drawing of a candidate's graph with its caption."""
    from synth import display

    graph = graph_of(candidate)
    if isinstance(graph, str):
        return f'<figure><figcaption>{html.escape(title)}: <span class="none">{html.escape(graph)}</span></figcaption></figure>'
    caption = f"{title}: {len(graph.nodes)} nodes, {graph.params:,} parameters"
    table_of_nodes = f"<details><summary>All nodes</summary><div class='scroll'>{display.as_table(graph)}</div></details>"
    picture = display.as_svg(graph, marked=marked)
    return f"<figure><figcaption><b>{html.escape(caption)}</b></figcaption>{picture}{table_of_nodes}</figure>"


def opaque(graph: Graph | str) -> str:
    """What of the seed is not understood, and therefore stays as it is; and why."""
    from synth.ops.opaque import Opaque

    nodes = () if isinstance(graph, str) else graph.nodes
    rows = [(node.name, node.op.label, node.op.because) for node in nodes if isinstance(node.op, Opaque)]
    caption = "Not understood, and therefore never changed by the search:"
    return table(("node", "what it is", "why"), rows, caption=caption) if rows else ""


def graph_of(candidate: Candidate) -> Graph | str:
    """A candidate's graph, or why it cannot be shown."""
    from synth import GraphError, ShapeMismatch

    try:
        return candidate.graph()
    except (GraphError, ShapeMismatch, UserError) as error:
        return f"its graph cannot be shown: {error}"


def changed(before: Graph | str, after: Graph | str) -> tuple[frozenset[str], frozenset[str]]:
    """(nodes that are gone or other ops now, nodes that are new or other ops) between two graphs."""
    if isinstance(before, str) or isinstance(after, str):
        return frozenset(), frozenset()
    old, new = ({(node.name, node.op) for node in graph.nodes} for graph in (before, after))
    return frozenset(name for name, _ in old - new), frozenset(name for name, _ in new - old)


def _pair(values: list[Any], less: str, more: str) -> list[Any]:
    return [*values, ratio_text(values[0], values[1], less=less, more=more) or ""] if len(values) > 1 else values


def _gain(facts: list[dict[str, Any]]) -> str:
    if any(fact["accuracy"] is None for fact in facts):
        return ""
    return points(facts[1]["accuracy"]["mean"] - facts[0]["accuracy"]["mean"])
