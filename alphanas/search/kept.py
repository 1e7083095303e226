"""What a change of a whole model must not lose: the demands of the properties that a search keeps."""

from __future__ import annotations

import functools

from properties import PROPERTIES, Inference, Property
from synth import Graph, infer
from synth.target import describe


def lost(before: Graph, after: Graph, properties: tuple[Property, ...]) -> tuple[str, ...]:
    """What properties demand of a model and a changed one does not meet, in words."""
    if not properties:
        return ()
    found, new = _inferred(before, properties), _inferred(after, properties)
    demanded = [
        one
        for each in properties
        for i in range(len(found.inputs))
        for o in range(len(found.shape))
        for one in (each.demands(found, i, o) if each.demands else ())
    ]
    return tuple(describe(one) for one in demanded if not one.met(new))


@functools.lru_cache(maxsize=256)
def _inferred(graph: Graph, properties: tuple[Property, ...]) -> Inference:
    return infer(graph, tuple(dict.fromkeys((*PROPERTIES, *properties))))
