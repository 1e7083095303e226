"""Random changes of pictures that leave their class alone, in NumPy: no compilation, and the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Augmentation = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def unchanged(rng: np.random.Generator, pictures: np.ndarray) -> np.ndarray:
    """The pictures as they are."""
    return pictures


def shifted(rng: np.random.Generator, pictures: np.ndarray) -> np.ndarray:
    """Every second picture (count, height, width, channels) moved, on its own, by up to one pixel in eight each way.

    What comes into view has the smallest value of its channel: the background of digits and garments. Repeating the edge instead
    smears strokes that touch it, which cost small networks half a point on digits.
    """
    count, height, width, channels = pictures.shape
    reach = max(1, min(height, width) // 8)
    padded = np.empty((count, height + 2 * reach, width + 2 * reach, channels), pictures.dtype)
    padded[:] = pictures.min((0, 1, 2)) if count else 0
    padded[:, reach : reach + height, reach : reach + width] = pictures
    moved = rng.random(count) < 0.5
    down, right = (np.where(moved, rng.integers(0, 2 * reach + 1, count), reach) for _ in range(2))
    rows, columns = down[:, None] + np.arange(height), right[:, None] + np.arange(width)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def flipped(rng: np.random.Generator, pictures: np.ndarray) -> np.ndarray:
    """Each picture mirrored left to right with probability one half."""
    mirrored = rng.random(len(pictures)) < 0.5
    return np.where(mirrored[:, None, None, None], pictures[:, :, ::-1], pictures)


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "none": unchanged,
    "shift": shifted,
    "flip": flipped,
    "shift_flip": lambda rng, pictures: flipped(rng, shifted(rng, pictures)),
}
