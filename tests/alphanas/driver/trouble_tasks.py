"""Tasks for the tests of trouble."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def write_slowly(payload: dict[str, Any]) -> dict[str, Any]:
    """Writes a file in two parts."""
    with open(payload["out"], "wb") as file:
        file.write(bytes([payload["payload"] % 256]) * 500)
        file.flush()
        time.sleep(0.2)
        file.write(bytes([payload["payload"] % 256]) * 500)
    return {"number": payload["payload"]}


def full_while(payload: dict[str, Any]) -> dict[str, Any]:
    """Finds the disk full as long as a file is there."""
    marker, number = payload["payload"]
    if Path(marker).exists():
        raise OSError(number, "No space left on device")
    return {"number": 0}
