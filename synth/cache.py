"""Where facts that outlive a process are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """`$ALPHANAS_CACHE`, or `alphanas` in the user's cache folder, there or not; None with `ALPHANAS_CACHE=off`."""
    named = os.environ.get("ALPHANAS_CACHE")
    if named == "off":
        return None
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alphanas"
