"""What was found out about ops, kept on disk from one process to the next.

One file for each page, such as that of an input type, in a folder whose name is a digest of the installed JAX and of the source of
`properties` and `synth`, so that whatever could change an answer asks anew. Files are replaced as a whole and carry a digest:
several processes may write at once, and what is damaged counts as missing. Only facts about ops of `synth.ops` are kept, since the
source of others is not in the digest.

The folder is `$ALPHANAS_CACHE`, or `alphanas` in the user's cache folder; `ALPHANAS_CACHE=off` keeps nothing. What cannot be read
or written is not used.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import io
import os
import pickle
import platform
import tempfile
import zlib
from collections.abc import Hashable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from synth.cache import cache_folder
from synth.op import Op

MOST_FILES = 4000
"""Pages that are kept; there are no more than a few hundred in a long search."""

_DIGEST = 32
_MODULES = ("synth.op", "synth.ops.", "synth.formulas", "properties.")


def is_kept(op: Op) -> bool:
    """Whether facts about an op may be kept: its source is in the folder's name."""
    return type(op).__module__.startswith("synth.ops.")


class Shelf:
    """The pages of one folder, each facts by key under a name of its own; reads each once, writes when told to."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._pages: dict[Hashable, dict[Any, Any]] = {}
        self._changed: set[Hashable] = set()
        self._pending = 0

    def recall(self, page: Hashable) -> Mapping[Any, Any]:
        """The facts of a page, by key."""
        if page not in self._pages:
            self._pages[page] = self._read(page)
        return self._pages[page]

    def note(self, page: Hashable, key: Hashable, fact: object) -> None:
        """One more fact, or another one in place of what was known; it and its key are numbers, texts, ops, values, properties."""
        self.recall(page)
        self._pages[page][key] = fact
        self._changed.add(page)
        self._pending += 1

    def keep(self, *, least: int = 1) -> None:
        """Writes what has changed, if that is about as many facts as `least`."""
        if self._pending < least:
            return
        self._pending = 0
        changed, self._changed = self._changed, set()
        for page in changed:
            self._write(page, self._read(page) | self._pages[page])

    def _path(self, page: Hashable) -> Path | None:
        return None if self._folder is None else self._folder / hashlib.sha256(repr(page).encode()).hexdigest()[:32]

    def _read(self, page: Hashable) -> dict[Any, Any]:
        path = self._path(page)
        try:
            data = b"" if path is None else path.read_bytes()
            if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
                return {}
            found: dict[Any, Any] = _Reader(io.BytesIO(zlib.decompress(data[_DIGEST:]))).load()
            return found
        except (OSError, zlib.error, pickle.UnpicklingError, EOFError, AttributeError, ImportError, TypeError, ValueError):
            return {}

    def _write(self, page: Hashable, facts: Mapping[Any, Any]) -> None:
        path = self._path(page)
        if path is None:
            return
        packed = zlib.compress(pickle.dumps(dict(facts)), 1)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() and sum(1 for _ in path.parent.iterdir()) >= MOST_FILES:
                return
            handle, name = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(packed).digest() + packed)
            os.replace(name, path)
        except OSError:
            return


class _Reader(pickle.Unpickler):
    """Reads facts, and makes no object of any other kind."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(_MODULES) or (module, name) == ("fractions", "Fraction"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no fact about an op")


@functools.cache
def shelf() -> Shelf:
    """The shelf of this process, which is written once more when the process ends."""
    found = Shelf(_folder())
    atexit.register(found.keep)
    return found


SOME = 100
"""Facts that are worth being written at once."""


def _folder() -> Path | None:
    base = cache_folder()
    return None if base is None else base / f"ops-{fingerprint()}"


@functools.cache
def fingerprint() -> str:
    """A digest of everything that facts about ops depend on."""
    digest = hashlib.sha256(f"{version('jax')} {version('numpy')} {platform.python_version()}".encode())
    rooms = Path(__file__).parent, Path(__file__).parent.parent / "properties"
    for path in sorted(path for room in rooms for path in room.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:24]
