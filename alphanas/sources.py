"""Where pictures come from: the sources by name, and the texts that name one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alphanas.errors import Fault, nearest


@dataclass(frozen=True)
class Source:
    """The module that reads a data source, and what stands after its colon."""

    module: str
    argument: str = ""
    takes_path: bool = False


# A new data source is one file with `read(argument) -> Raw`, and one line here.
SOURCES: Mapping[str, Source] = {
    "digits": Source("alphanas.data.digits"),
    "npz": Source("alphanas.data.npz", argument="PATH", takes_path=True),
}


def split_source(source: str) -> tuple[str, str]:
    """("npz", "PATH") of "npz:PATH", ("digits", "") of "digits"."""
    scheme, _, argument = source.partition(":")
    return scheme.strip(), argument.strip()


def source_fault(source: str) -> Fault | None:
    """What is wrong with the form of a source, without looking at any file."""
    scheme, argument = split_source(source)
    forms = ", ".join(name + (f":{entry.argument}" if entry.argument else "") for name, entry in SOURCES.items())
    if scheme not in SOURCES:
        return Fault("data.source", f"saw {source!r}, an unknown source", forms, nearest(scheme, SOURCES))
    if bool(argument) != bool(SOURCES[scheme].argument):
        return Fault("data.source", f"saw {source!r}", forms)
    return None
