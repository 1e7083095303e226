"""Which of a problem's questions a program answers, by composing what its ops do along its graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synth.branching.states import Asked, relation
from synth.graph import Graph


def unmet(graph: Graph, asked: Sequence[Asked]) -> Asked | None:
    """The first question whose answer is no; None if all hold."""
    return next((each for each in asked if not each.question.holds(_part(graph, each))), None)


def _part(graph: Graph, asked: Asked) -> Any:
    """What the asked output owes to the asked input, as far as the question reads it."""
    question = asked.question
    found: dict[str, Any] = {
        item.name: question.start(item.value) if index == asked.input else None for index, item in enumerate(graph.inputs)
    }
    for node in graph.nodes:
        inputs = graph.input_values(node)
        own = None
        for place, name in enumerate(node.inputs):
            part = found[name]
            step = None if part is None else relation(node.op, inputs, place, question)
            through = None if step is None else part.then(step)
            own = through if own is None else own if through is None else own.join(through)
        found[node.name] = own
    return found[graph.outputs[asked.output]]
