"""Properties by name: the built-in ones, and one's own by an import path."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from properties.causality import CAUSALITY
from properties.equivariance import EQUIVARIANCE
from properties.inference import PROPERTIES, Property
from properties.scale import SCALE

ALL: tuple[Property, ...] = (*PROPERTIES, CAUSALITY, SCALE, EQUIVARIANCE)
"""Every built-in property."""

BUILT_IN: Mapping[str, Property] = {each.name: each for each in ALL}

FORMS = "'package.module:PROPERTY' or 'file.py:PROPERTY'"


def find(name: str) -> Property:
    """The property that a name stands for: a built-in one, `package.module:PROPERTY` or `file.py:PROPERTY`.

    Raises ValueError for a name that is not known, what cannot be imported, and an object that is no property.
    """
    path, colon, attribute = name.rpartition(":")
    if not colon:
        near = get_close_matches(name, BUILT_IN, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"built in are {', '.join(BUILT_IN)}; give one's own as {FORMS}"
        if name not in BUILT_IN:
            raise ValueError(f"no property is called {name!r}: {hint}")
        return BUILT_IN[name]
    module = _file(name, Path(path)) if path.endswith(".py") else _module(name, path)
    try:
        found = getattr(module, attribute)
    except AttributeError:
        own = [key for key, value in vars(module).items() if isinstance(value, Property)]
        there = f"its properties are {', '.join(own)}" if own else "it has no property"
        raise ValueError(f"property {name!r}: {path} has no {attribute!r}; {there}") from None
    if isinstance(found, type) or not isinstance(found, Property):
        seen = f"{attribute} is {'the class' if isinstance(found, type) else 'of the type'} {_type_name(found)}"
        raise ValueError(f"property {name!r}: {seen}; wanted a properties.RelationalProperty or properties.WalkedProperty")
    return found


def _type_name(found: object) -> str:
    return found.__name__ if isinstance(found, type) else type(found).__name__


def _module(name: str, path: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(path)
    except Exception as error:  # whatever one's own module raises
        raise ValueError(f"property {name!r}: cannot import {path}: {_said(error)}; give {FORMS}") from error


def _file(name: str, path: Path) -> ModuleType:
    """The module of a file, under its own name, so that import paths of what is in it (a requirement's kind) lead to it."""
    if not path.is_file():
        raise ValueError(f"property {name!r}: no file {path}; give {FORMS}")
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
        raise ValueError(f"property {name!r}: cannot run {path}: {_said(error)}") from error
    return module


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, ImportError) else str(error)
