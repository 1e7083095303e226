"""Properties by name: the built-in ones, and one's own by an import path."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from properties.causality import CAUSALITY
from properties.equivariance import EQUIVARIANCE
from properties.importing import module_at
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
    module = module_at(path, what=f"property {name!r}", forms=FORMS)
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
