"""What was found out about ops, kept on disk from one process to the next.

One file for each input type, in a folder whose name is a digest of the installed JAX and of the source of `properties` and `synth`,
so that whatever could change an answer asks anew. Files are replaced as a whole and carry a digest: several processes may write at
once, and what is damaged counts as missing. Only ops of `synth.ops` are kept, since the source of others is not in the digest.

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
from importlib.metadata import version
from pathlib import Path
from typing import Any

from properties import Inference
from synth.op import Op, Value

Fact = tuple[Value | str, Inference | None]
"""The type of an op's output or why it does not fit, and its properties if they were asked for."""

MOST_FILES = 4000
"""Input types that are kept; there are no more than a few hundred in a long search."""

_DIGEST = 32
_MODULES = ("synth.op", "synth.ops.", "properties.")


class Shelf:
    """The facts of one folder; reads each type once, writes when told to."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._facts: dict[Value, dict[Op, Fact]] = {}
        self._changed: set[Value] = set()
        self._pending = 0

    def recall(self, value: Value) -> dict[Op, Fact]:
        """The facts about ops on inputs of this type."""
        if value not in self._facts:
            self._facts[value] = self._read(value)
        return self._facts[value]

    def note(self, op: Op, value: Value, output: Value | str, inference: Inference | None) -> None:
        """One more fact."""
        if self._folder is None or not type(op).__module__.startswith("synth.ops."):
            return
        known = self.recall(value).get(op)
        if known is None or (known[1] is None and inference is not None):
            self._facts[value][op] = (output, inference)
            self._changed.add(value)
            self._pending += 1

    def keep(self, *, least: int = 1) -> None:
        """Writes what has changed, if that is about as many facts as `least`."""
        if self._pending < least:
            return
        self._pending = 0
        changed, self._changed = self._changed, set()
        for value in changed:
            self._write(value, self._read(value) | self._facts[value])

    def _path(self, value: Value) -> Path | None:
        return None if self._folder is None else self._folder / hashlib.sha256(repr(value).encode()).hexdigest()[:32]

    def _read(self, value: Value) -> dict[Op, Fact]:
        path = self._path(value)
        try:
            data = b"" if path is None else path.read_bytes()
            if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
                return {}
            found: dict[Op, Fact] = _Reader(io.BytesIO(zlib.decompress(data[_DIGEST:]))).load()
            return found
        except (OSError, zlib.error, pickle.UnpicklingError, EOFError, AttributeError, ImportError, TypeError, ValueError):
            return {}

    def _write(self, value: Value, facts: dict[Op, Fact]) -> None:
        path = self._path(value)
        if path is None:
            return
        packed = zlib.compress(pickle.dumps(facts), 1)
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
    named = os.environ.get("ALPHANAS_CACHE")
    if named == "off":
        return None
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alphanas"
    return base / f"ops-{fingerprint()}"


@functools.cache
def fingerprint() -> str:
    """A digest of everything that facts about ops depend on."""
    digest = hashlib.sha256(f"{version('jax')} {version('numpy')} {platform.python_version()}".encode())
    rooms = Path(__file__).parent, Path(__file__).parent.parent / "properties"
    for path in sorted(path for room in rooms for path in room.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:24]
