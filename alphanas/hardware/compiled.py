"""Kernels as machine code, compiled on all cores and kept in the cache folder: what was compiled once is loaded from then on.

A file is named for what decides over the code in it: the device with the versions of TVM and of our kernels, the kernel's exact
form, its knobs. Kernels that were compiled together are one library; each has a name (a link) for it. Where there is no linker, no
folder or no room, kernels are compiled for this process alone. Imports TVM when it compiles or loads.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from alphanas.hardware.records import default_path, device
from alphanas.study.environment import cores

if TYPE_CHECKING:
    from alphanas.hardware.machine import Machine

MOST_BYTES = 1 << 29
"""The kernels that were not used for longest go when the folder holds more than this."""
ENDING = ".so"
Result = TypeVar("Result")


def folder_of(records: Path | None) -> Path | None:
    """Where compiled kernels are kept: in the user's cache folder, whatever file of records is used; None where nothing lasts.

    Loading a library runs its code: none is taken from a place that may have come from somebody else, such as a run folder.
    """
    own = default_path()
    return None if records is None or own is None else own.with_name(f"{own.name}.kernels")


def symbol(*parts: str) -> str:
    """A kernel's name: one for each exact form, knobs and machine."""
    return "kernel_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def loaded(wanted: Mapping[str, Callable[[], Any]], machine: Machine, folder: Path | None) -> tuple[list[Any], int]:
    """(modules that together have a function of every wanted name, how many of these were compiled for it).

    What is not in the folder is made, compiled and put there.
    """
    place = None if folder is None else folder / _device_name(machine)
    found = {name: _load(place / f"{name}{ENDING}") for name in wanted} if place is not None and place.is_dir() else {}
    missing = [name for name in wanted if found.get(name) is None]
    modules = [module for module in dict.fromkeys(found.values()) if module is not None]

    def kept(names: Sequence[str], compiled: Any) -> Any:
        return (_kept(names, compiled, place) if place is not None else None) or compiled.jit()

    modules += in_parts({name: wanted[name]() for name in missing}, machine, kept)
    if missing and folder is not None:
        _tidied(folder)
    return modules, len(missing)


def in_parts(functions: Mapping[str, Any], machine: Machine, finish: Callable[[Sequence[str], Any], Result]) -> list[Result]:
    """Compiles functions in as many parts as there are cores, at the same time; what `finish` makes of (names, compiled) of each.

    TVM compiles without Python's lock.
    """
    import tvm

    names = list(functions)
    count = cores()
    parts = [part for part in (tuple(names[n::count]) for n in range(count)) if part]

    def finished(part: Sequence[str]) -> Result:
        module = tvm.IRModule({name: functions[name].with_attr("global_symbol", name) for name in part})
        return finish(part, tvm.compile(module, target=machine.target))

    if len(parts) < 2:
        return list(map(finished, parts))
    with ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(finished, parts))


def _device_name(machine: Machine) -> str:
    here = device(machine.name, machine.lanes, machine.registers, machine.threads)
    return hashlib.sha256(here.name.encode()).hexdigest()[:16]


def _load(path: Path) -> Any:
    """The library at a path; None where there is none, or it cannot be loaded."""
    import tvm

    if not path.exists():
        return None
    try:
        module = tvm.runtime.load_module(str(path))
    except RuntimeError:  # damaged, or of another system: it is made anew
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return module


def _kept(names: Sequence[str], compiled: Any, place: Path) -> Any:
    """The library that is now in the folder under each of these names; None where it cannot be kept."""
    from tvm.support import cc

    if not cc.get_cc():
        return None
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as made:
            library = Path(made) / f"library{ENDING}"
            compiled.export_library(str(library), workspace_dir=made)
            for name in names:
                link = Path(made) / name
                _linked(library, link)
                os.replace(link, place / f"{name}{ENDING}")
    except (OSError, RuntimeError):  # no room, no right to write, no working linker
        return None
    return _load(place / f"{names[0]}{ENDING}")


def _linked(library: Path, link: Path) -> None:
    try:
        os.link(library, link)
    except OSError:  # a file system without links
        shutil.copy2(library, link)


def _tidied(folder: Path) -> None:
    """Removes what was not used for longest, until the folder holds no more than it may."""
    with contextlib.suppress(OSError):
        files = [(path.stat(), path) for path in folder.glob(f"*/*{ENDING}")]
        shares = {stat.st_ino: stat.st_size for stat, _ in files}
        held = sum(shares.values())
        links: dict[int, int] = {}
        for stat, _ in files:
            links[stat.st_ino] = links.get(stat.st_ino, 0) + 1
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
            if held <= MOST_BYTES:
                return
            path.unlink(missing_ok=True)
            links[stat.st_ino] -= 1
            held -= 0 if links[stat.st_ino] else shares[stat.st_ino]
