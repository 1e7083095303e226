"""One's own objective: a function of a graph that returns a number, by its import path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from properties.importing import module_at
from synth import Graph

Function = Callable[[Graph], Any]

FORMS = '"file.py:NAME" or "package.module:NAME"'


def load(path: str) -> Function:
    """The function of an import path; ValueError for what cannot be imported, is not there, or cannot be called."""
    place, _, name = path.rpartition(":")
    module = module_at(place, what=f"objective {path!r}", forms=FORMS)
    if name not in vars(module):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(f"objective {path!r}: {place} has no {name!r}; it has {', '.join(known) or 'no function'}")
    function = vars(module)[name]
    if not callable(function):
        raise ValueError(
            f"objective {path!r} is a {type(function).__name__}; wanted a function of a synth.Graph that returns a number"
        )
    return function  # type: ignore[no-any-return]
