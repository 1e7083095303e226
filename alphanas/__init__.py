"""Smaller, faster JAX models that are as accurate: architecture search in the space of program properties.

`graph, variables = alphanas.lift(model, *inputs)`, `alphanas.zoo.build(name, …)`, `alphanas.search(config)`,
`alphanas.resume(folder)`, `alphanas.open_study(folder)`. Everything is loaded at first use: importing this package is quick.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

from alphanas import search

if TYPE_CHECKING:
    from alphanas.driver import resume
    from alphanas.models import lift, zoo
    from alphanas.study import Candidate, Study, open_study
    from synth.graph import Graph

__version__ = "0.1.0"
__all__ = ["Candidate", "Graph", "Study", "lift", "open_study", "resume", "search", "zoo"]

_HOMES = {
    "Candidate": "alphanas.study",
    "Graph": "synth.graph",
    "Study": "alphanas.study",
    "lift": "alphanas.models",
    "open_study": "alphanas.study",
    "resume": "alphanas.driver",
    "zoo": "alphanas.models",
}


class _CallableRoom(types.ModuleType):
    """The room `alphanas.search`, which is at once the library's function of that name: both names are promised."""

    def __call__(self, config: Any, **options: Any) -> Study:
        """Run a search; see `alphanas.driver.search`."""
        return importlib.import_module("alphanas.driver").search(config, **options)


search.__class__ = _CallableRoom


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"alphanas has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
