"""Facts that come with the package: worked out once from its own source, and used as long as that source is the same.

A file of facts names the JAX and carries a digest of the source that they were derived from. Where either differs the file is not
used, and the facts are derived again, which takes longer and gives the same. `python -m synth.shipping` writes the files anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any


def origin(sources: Iterable[Path]) -> dict[str, str]:
    """What facts hang on: the version of JAX, and a digest of the source they are derived from."""
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return {"jax": version("jax"), "source": digest.hexdigest()[:24]}


def recalled(path: Path, sources: Iterable[Path]) -> Any | None:
    """The facts of a file; None where there is none, or it was derived from another source or with another JAX."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found["facts"] if found["origin"] == origin(sources) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def written(path: Path, sources: Iterable[Path], facts: Iterable[Any]) -> None:
    """Writes a file of facts, one a line."""
    lines = ",\n".join(json.dumps(fact, separators=(",", ":")) for fact in facts)
    path.write_text(f'{{"origin": {json.dumps(origin(sources))},\n"facts": [\n{lines}\n]}}\n', encoding="utf-8")
