"""One's own code by an import path: `package.module`, or a file that may import what lies beside it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def module_at(place: str, *, what: str, forms: str) -> ModuleType:
    """The module of `file.py` or `package.module`; it runs its code.

    `what` is wanted from there, in one of the `forms`: both are for the ValueError that says what cannot be found, imported or run.
    """
    return _file(Path(place), what, forms) if place.endswith(".py") else _module(place, what, forms)


def _module(path: str, what: str, forms: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(path)
    except Exception as error:  # whatever one's own module raises
        raise ValueError(f"{what}: cannot import {path}: {_said(error)}; give {forms}") from error


def _file(path: Path, what: str, forms: str) -> ModuleType:
    """The module of a file, under its own name, so that import paths of what is in it (a requirement's kind) lead to it."""
    if not path.is_file():
        raise ValueError(f"{what}: no file {path}; give {forms}")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    loaded = sys.modules.get(path.stem)
    if loaded is not None and Path(getattr(loaded, "__file__", None) or "").resolve() == path.resolve():
        return loaded
    label = path.stem if loaded is None else f"{path.stem} of {folder}"
    spec = importlib.util.spec_from_file_location(label, path)
    assert spec is not None and spec.loader is not None, "the file's name ends in .py"
    module = sys.modules[label] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever one's own file raises
        sys.modules.pop(label)
        raise ValueError(f"{what}: cannot run {path}: {_said(error)}") from error
    return module


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, ImportError) else str(error)
