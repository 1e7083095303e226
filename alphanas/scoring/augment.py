"""Random changes of pictures that leave their class alone, in NumPy: no compilation, and the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Augmentation = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def unchanged(rng: np.random.Generator, pictures: np.ndarray) -> np.ndarray:
    """The pictures as they are."""
    return pictures


def shifted(rng: np.random.Generator, pictures: np.ndarray) -> np.ndarray:
    """Every picture (count, height, width, channels) moved by up to one pixel in eight each way, on its own; edges repeat."""
    count, height, width, _ = pictures.shape
    reach = max(1, min(height, width) // 8)
    padded = np.pad(pictures, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    rows = rng.integers(0, 2 * reach + 1, count)[:, None] + np.arange(height)
    columns = rng.integers(0, 2 * reach + 1, count)[:, None] + np.arange(width)
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
