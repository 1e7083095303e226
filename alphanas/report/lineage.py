"""How the best came about: every step from the seed, with the region, the property that was changed, and what was synthesized.

Read from a candidate's proposal: `region` (names of nodes, or a text), `changes` (a list of `{"property", "before", "after"}`);
what else it says is listed as it is. What was taken out and put in is not taken on trust but read off the two graphs.
"""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alphanas.report.markup import percent, ratio_text, table
from alphanas.report.models import changed, graph_of

if TYPE_CHECKING:
    from alphanas.study import Candidate, Study
    from synth import Graph

KNOWN = frozenset({"region", "changes", "parent", "kind", "method", "seconds", "cause", "message"})


def story(study: Study) -> str:
    """The steps from the seed to the best; nothing when the best is the seed."""
    return story_of(study.best()) if study.candidates() else ""


def story_of(one: Candidate) -> str:
    """The steps from the seed to a candidate; nothing for the seed itself."""
    line = one.lineage()
    if len(line) < 2:
        return ""
    count = len(line) - 1
    intro = f"<p>{count} step{'s' if count > 1 else ''} from the seed:</p>"
    return intro + "".join(_step(parent, child) for parent, child in itertools.pairwise(line))


def _step(parent: Candidate, child: Candidate) -> str:
    before, after = graph_of(parent), graph_of(child)
    old, new = changed(before, after)
    changes = changes_of(child.proposal)
    properties = table(("property changed", "from", "to"), changes) if changes else ""
    region = region_text(child.proposal.get("region"))
    where = f"<p>Where: <code>{html.escape(region)}</code> of #{parent.id}</p>" if region else ""
    swap = ""
    if not isinstance(before, str) and not isinstance(after, str):
        program = f"<pre>{_program(before, old)}</pre><div class='arrow'>→</div><pre>{_program(after, new)}</pre>"
        swap = f'<div class="swap">{program}</div>'
    kind = f" · {html.escape(str(child.proposal['kind']))}" if child.proposal.get("kind") else ""
    method = f" · synthesized by the {html.escape(child.method)} method" if child.method else ""
    took = f" in {child.seconds:.2f} s" if child.seconds is not None and child.method else ""
    detail = f'<span class="soft">generation {child.generation}{kind}{method}{took}</span>'
    return (
        f'<div class="step"><h3>#{parent.id} → #{child.id} {detail}</h3>'
        f"{where}{properties}{swap}<p>{_effect(parent, child)}</p>{_others(child.proposal)}</div>"
    )


def changes_of(proposal: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(property, before, after) of every change that a proposal names."""
    return [
        (str(change.get("property", "")), value_text(change.get("before")), value_text(change.get("after")))
        for change in proposal.get("changes", ())
        if isinstance(change, Mapping)
    ]


def region_text(region: Any) -> str:
    """A region in short: its only node, or first..last."""
    if isinstance(region, str):
        return region
    names = [str(name) for name in region] if isinstance(region, Sequence) else []
    return names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}" if names else ""


def value_text(value: Any) -> str:
    """A property's value as JSON gives it, short."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"


def _program(graph: Graph, names: frozenset[str]) -> str:
    lines = [f"{node.name}: {node.op}  →  {graph.values[node.name]}" for node in graph.nodes if node.name in names]
    return html.escape("\n".join(lines)) or '<span class="none">nothing</span>'


def _effect(parent: Candidate, child: Candidate) -> str:
    parts = []
    for word, ours, theirs in (("parameters", child.params, parent.params), ("MACs", child.macs, parent.macs)):
        ratio = ratio_text(theirs, ours, less="fewer", more="more")
        parts += [f"{ours:,} {word} ({ratio})"] if ours is not None and ratio else []
    if child.error is not None:
        before = f", its parent {percent(parent.error)}" if parent.error is not None else ""
        parts.append(f"validation error {percent(child.error)}{before}")
    return "; ".join(parts)


def _others(proposal: Mapping[str, Any]) -> str:
    rows = [
        (str(key), value_text(value)) for key, value in proposal.items() if key not in KNOWN and value not in (None, "", [], {})
    ]
    return f"<details><summary>The whole proposal</summary>{table(('key', 'value'), rows)}</details>" if rows else ""
