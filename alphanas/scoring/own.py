"""One's own objective: a function of a graph that returns a number, by its import path."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synth import Graph

Function = Callable[[Graph], Any]

FORMS = '"file.py:NAME" or "package.module:NAME"'


def load(path: str) -> Function:
    """The function of an import path; ValueError for what cannot be imported, is not there, or cannot be called."""
    place, _, name = path.rpartition(":")
    try:
        module = _file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever one's own module raises
        raise ValueError(f"objective {path!r}: cannot import {place}: {type(error).__name__}: {error}; give {FORMS}") from error
    if name not in vars(module):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(f"objective {path!r}: {place} has no {name!r}; it has {', '.join(known) or 'no function'}")
    function = vars(module)[name]
    if not callable(function):
        raise ValueError(
            f"objective {path!r} is a {type(function).__name__}; wanted a function of a synth.Graph that returns a number"
        )
    return function  # type: ignore[no-any-return]


def _file(path: Path) -> Any:
    """The module of a file, which may import what lies beside it."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(f"objective {path.resolve()}", path)
    assert spec is not None and spec.loader is not None, "the file's name ends in .py"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
