"""Files of a run folder: whole or absent. Written to a temporary name, synced, renamed; read back against their hash."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Container
from pathlib import Path

from alphanas.errors import FAILED, UserError
from alphanas.study.faults import translated

DATABASE = "study.sqlite"
LOCK = "study.lock"
CONFIG = "config.toml"
ARTIFACTS = "artifacts"
SCRATCH = "scratch"
PART = ".part"


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Replaces a file as a whole: a reader, or a crash at any instant, sees the old content or the new, never a part."""
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    with translated(path.parent):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> tuple[str, int]:
    """(sha256 hex, bytes) of a file."""
    hasher, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
            size += len(block)
    return hasher.hexdigest(), size


def store(root: Path, source: Path | bytes, suffix: str) -> tuple[str, str, int]:
    """Puts content under its hash: (relative path, sha256, bytes). A file of the scratch folder is moved, another copied."""
    with translated(root):
        if isinstance(source, Path) and source.resolve().is_relative_to(root.resolve() / SCRATCH):
            sha, size = digest(source)
            target = _place(root, sha, suffix)
            descriptor = os.open(source, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(source, target)
            sync_folder(target.parent)
            return str(target.relative_to(root)), sha, size
        content = source.read_bytes() if isinstance(source, Path) else source
        sha = hashlib.sha256(content).hexdigest()
        target = _place(root, sha, suffix)
        write_atomic(target, content)
        return str(target.relative_to(root)), sha, len(content)


def verified(root: Path, relative: str, sha: str, size: int) -> Path:
    """The absolute path of a stored file whose content is what was recorded; `UserError` otherwise."""
    path = root / relative
    remedy = "restore the run folder from a copy"
    try:
        inside, there = path.resolve().is_relative_to(root.resolve()), path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        inside, there = False, False
    if not inside:
        shown = relative if len(relative) <= 200 else relative[:199] + "…"
        raise UserError(f"artifact {shown}", saw="a path that leaves the run folder", exit_code=FAILED, cause="corrupted")
    if not there:
        raise UserError(f"artifact {path}", saw="no such file", remedy=remedy, exit_code=FAILED, cause="corrupted")
    with translated(root):
        seen = digest(path)
    if seen != (sha, size):
        saw = f"{seen[1]} bytes of sha256 {seen[0][:12]}…"
        wanted = f"{size} bytes of sha256 {sha[:12]}…"
        raise UserError(f"artifact {path}", saw=saw, wanted=wanted, remedy=remedy, exit_code=FAILED, cause="corrupted")
    return path


def sweep(root: Path, kept: Container[str]) -> None:
    """Removes what a process that died has left: half-written files, scratch, and artifacts that no row points to."""
    shutil.rmtree(root / SCRATCH, ignore_errors=True)
    (root / SCRATCH).mkdir(exist_ok=True)
    for file in (*root.glob(f".*{PART}"), *(root / ARTIFACTS).glob("*/*")):
        if file.is_file() and file.relative_to(root).as_posix() not in kept:
            file.unlink()


def _place(root: Path, sha: str, suffix: str) -> Path:
    folder = root / ARTIFACTS / sha[:2]
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{sha}{suffix}"
