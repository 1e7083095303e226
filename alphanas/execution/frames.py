"""Messages over a pipe: eight bytes of length, then a JSON object."""

from __future__ import annotations

import json
import os
from typing import Any

HEADER = 8


def encode(message: dict[str, Any]) -> bytes:
    """One message; `TypeError` or `ValueError` if it is not JSON."""
    body = json.dumps(message).encode()
    return len(body).to_bytes(HEADER, "big") + body


def decode(buffer: bytearray) -> dict[str, Any] | None:
    """Takes the first whole message off the buffer; None as long as there is none."""
    if len(buffer) < HEADER:
        return None
    end = HEADER + int.from_bytes(buffer[:HEADER], "big")
    if len(buffer) < end:
        return None
    message: dict[str, Any] = json.loads(bytes(buffer[HEADER:end]))
    del buffer[:end]
    return message


def write(descriptor: int, data: bytes) -> None:
    """Writes all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read(descriptor: int) -> dict[str, Any] | None:
    """Waits for one message; None when the other end is closed."""
    buffer = bytearray()
    while (message := decode(buffer)) is None:
        # Never beyond this message: what follows belongs to the next call.
        wanted = HEADER - len(buffer) if len(buffer) < HEADER else HEADER + int.from_bytes(buffer[:HEADER], "big") - len(buffer)
        block = os.read(descriptor, min(wanted, 1 << 20))
        if not block:
            return None
        buffer += block
    return message
