"""The files of a config: TOML, overrides of single keys, and relative paths made absolute."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from alphanas.errors import Fault, UserError
from alphanas.sources import SOURCES, split_source


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; `UserError` when it is missing, unreadable or no TOML."""
    remedy = "give the path of a TOML file such as experiments/digits.toml"
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise UserError(f"config {path}", saw="no such file", remedy=remedy, cause="missing_file") from None
    except OSError as error:
        raise UserError(f"config {path}", saw=error.strerror or str(error), remedy=remedy, cause="missing_file") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise UserError(f"config {path}", saw=f"not TOML: {error}", remedy="mend that line", cause="bad_config") from None


def override(text: str, faults: list[Fault]) -> tuple[str, Any]:
    """('key.sub', value) of an override; the value is TOML where it reads as TOML, otherwise the text itself."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", key):
        faults.append(Fault(f"--set {text}", "", "key=value such as search.generation=4"))
        return ("", None)
    try:
        return (key, tomllib.loads(f"value = {value}")["value"])
    except (ValueError, RecursionError):
        return (key, value)


def put(mapping: dict[str, Any], key: str, value: Any, faults: list[Fault]) -> None:
    """Sets a dotted key in nested tables."""
    *parents, leaf = key.split(".")
    for parent in parents:
        inner = mapping.setdefault(parent, {})
        if not isinstance(inner, dict):
            faults.append(Fault(f"--set {key}", f"{parent} is not a table"))
            return
        mapping = inner
    mapping[leaf] = value


def resolve_paths(mapping: dict[str, Any], overridden: Mapping[str, Any], folder: Path) -> list[Fault]:
    """Makes the relative paths of a fresh mapping absolute; a fault for each file that is nowhere."""
    faults: list[Fault] = []
    data = mapping.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    scheme, argument = split_source(source) if isinstance(source, str) else ("", "")
    if isinstance(data, dict) and scheme in SOURCES and SOURCES[scheme].takes_path and argument:
        found = _find(argument, _bases("data.source" in overridden, folder), "data.source", faults)
        data["source"] = f"{scheme}:{found}"
    model = mapping.get("model")
    file, colon, factory = model.partition(":") if isinstance(model, str) else ("", "", "")
    if colon and file.endswith(".py"):
        found = _find(file, _bases("model" in overridden, folder), "model", faults)
        mapping["model"] = f"{found}:{factory}"
    search = mapping.get("search")
    properties = search.get("properties") if isinstance(search, dict) else None
    if isinstance(search, dict) and isinstance(properties, list):
        bases = _bases("search.properties" in overridden, folder)
        search["properties"] = [_located(text, bases, "search.properties", faults) for text in properties]
    if isinstance(search, dict) and isinstance(objectives := search.get("objectives"), list):
        bases = _bases("search.objectives" in overridden, folder)
        search["objectives"] = [_located(text, bases, "search.objectives", faults) for text in objectives]
    if isinstance(limits := mapping.get("constraints"), dict):
        bases = (folder, Path.cwd())
        mapping["constraints"] = {_located(name, bases, "constraints", faults): text for name, text in limits.items()}
    weights = mapping.get("weights")
    if isinstance(weights, str) and weights:
        mapping["weights"] = str(_find(weights, _bases("weights" in overridden, folder), "weights", faults, folders=True))
    return faults


def _located(text: Any, bases: tuple[Path, ...], key: str, faults: list[Fault]) -> Any:
    """`file.py:NAME` with the file's absolute path; anything else as it is."""
    file, colon, name = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    return f"{_find(file, bases, key, faults)}:{name}" if colon and file.endswith(".py") else text


def _bases(overridden: bool, folder: Path) -> tuple[Path, ...]:
    return (Path.cwd(), folder) if overridden else (folder, Path.cwd())


def _find(text: str, bases: tuple[Path, ...], key: str, faults: list[Fault], *, folders: bool = False) -> Path:
    places = [base / Path(text).expanduser() for base in bases]
    for place in places:
        with suppress(OSError):  # a name longer than any file's
            if place.is_file() or (folders and place.is_dir()):
                return place.resolve()
    tried = " and ".join(dict.fromkeys(str(place) for place in places))
    faults.append(Fault(key, f"no file {text!r} (looked for {tried})", "an existing file", "mend the path"))
    return places[0]
