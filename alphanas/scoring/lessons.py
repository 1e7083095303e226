"""What a teacher says of the pictures of an epoch, kept on disk: candidates that are shown the same pictures hear the same.

Equal seeds shuffle and augment alike, so that all candidates of a study see the same pictures in the same epoch, and the teacher's
pass over them, which may cost more than a small student's own, is made once. A file is named for what decides over it: the teacher,
the pictures, the batches in which it looks at them. It holds exactly what would be computed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from alphanas.execution import notes
from alphanas.scoring.distillation import Teacher, look

Array = np.ndarray[Any, Any]


def logits(teacher: Teacher, pictures: Array, batch: int, folder: Path | None) -> Array:
    """The teacher's logits for batches of pictures: from the folder if they are there; else they are put there."""
    if folder is None:
        return _computed(teacher, pictures, batch)
    path = folder / f"{_digest(teacher, pictures, batch)}.npy"
    found = _read(path, len(pictures))
    if found is None:
        found = _computed(teacher, pictures, batch)
        _write(path, found)
    return found


def _computed(teacher: Teacher, pictures: Array, batch: int) -> Array:
    said = []
    for first in range(0, len(pictures), batch):
        said.append(np.asarray(look(teacher, (), pictures[first : first + batch])[0]))
        notes.progress()
    return np.concatenate(said)


def _digest(teacher: Teacher, pictures: Array, batch: int) -> str:
    digest = hashlib.sha256(f"{batch} {pictures.shape} {pictures.dtype} {teacher.graph.to_json()}".encode())
    for part in ("params", "state"):
        for node, arrays in sorted(teacher.variables[part].items()):
            for name, array in sorted(arrays.items()):
                digest.update(f"{node} {name} {array.shape} {array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).data)
    digest.update(np.ascontiguousarray(pictures).data)
    return digest.hexdigest()[:32]


def _read(path: Path, count: int) -> Array | None:
    """What a file holds; None where there is none, or it is damaged."""
    try:
        found: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if len(found) == count else None


def _write(path: Path, said: Array) -> None:
    """Puts a file there as a whole; without room or right to write, nothing is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            np.save(file, said)
        os.replace(file.name, path)
    except OSError:
        return
