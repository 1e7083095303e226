"""A table of what was found out, of bounded size."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Values by key; when there are more than `size`, the older half is forgotten."""

    def __init__(self, size: int):
        self._size = size
        self._found: dict[K, V] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._found

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: K) -> V | None:
        """What is known for a key, or None."""
        return self._found.get(key)

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def put(self, key: K, value: V) -> V:
        """Remembers a value and gives it back."""
        if len(self._found) >= self._size:
            for old in list(self._found)[: self._size // 2]:
                del self._found[old]
        self._found[key] = value
        return value

    def clear(self) -> None:
        """Forgets everything."""
        self._found.clear()
