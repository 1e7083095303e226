"""From a source's pictures to the parts that a study trains, selects and reports on."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass, field

import numpy as np

from alphanas.config import Data
from alphanas.data.raw import Array, Raw, checked
from alphanas.errors import UserError
from alphanas.sources import SOURCES, source_fault, split_source


@dataclass(frozen=True)
class Standardisation:
    """x = (pixel / scale - mean[channel]) / std[channel], from the training part alone."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, pictures: Array) -> Array:
        """Standardised float32 pictures of NHWC pixels."""
        mean = np.asarray(self.mean, np.float32) * np.float32(self.scale)
        std = np.asarray(self.std, np.float32) * np.float32(self.scale)
        return (pictures.astype(np.float32) - mean) / std


@dataclass(frozen=True, eq=False)
class DataSet:
    """Standardised float32 NHWC pictures and int32 labels in three parts."""

    name: str
    x_train: Array = field(repr=False)
    y_train: Array = field(repr=False)
    x_valid: Array = field(repr=False)
    y_valid: Array = field(repr=False)
    x_test: Array = field(repr=False)
    y_test: Array = field(repr=False)
    num_classes: int
    input_shape: tuple[int, int, int]
    standardisation: Standardisation
    fingerprint: str

    def sizes(self) -> dict[str, int]:
        """Pictures in each part."""
        return {"train": len(self.y_train), "validation": len(self.y_valid), "test": len(self.y_test)}


def load(options: Data, *, fold: int = 0) -> DataSet:
    """The data set of a config's [data] section; the same options and the same content give the same parts.

    Another `fold` has the same test part and parts the rest anew into training and validation. Folds from 1 on are those of a cross
    validation, so many as fit: no picture is in two validation parts before every other was in one. All folds are standardised
    alike, so that weights trained on one can be used with any.
    """
    fault = source_fault(options.source)
    if fault:
        raise UserError([fault], cause="bad_config")
    scheme, argument = split_source(options.source)
    read = importlib.import_module(SOURCES[scheme].module).read
    raw = checked(read(argument))
    fingerprint = _fingerprint(raw, options)
    rng = np.random.default_rng(options.seed)
    train = np.arange(len(raw.y_train))
    if raw.x_test is None or raw.y_test is None:
        test, train = _split(train, raw.y_train, options.test, rng, raw.name, "data.test")
        x_test, y_test = raw.x_train[test], raw.y_train[test]
    else:
        x_test, y_test = raw.x_test, raw.y_test
    rest = train
    valid, train, standardisation = _part(raw, rest, options, rng)
    if fold:
        valid, train = _fold(raw, rest, options, fold - 1)
    return DataSet(
        name=raw.name,
        x_train=standardisation.apply(raw.x_train[train]),
        y_train=raw.y_train[train],
        x_valid=standardisation.apply(raw.x_train[valid]),
        y_valid=raw.y_train[valid],
        x_test=standardisation.apply(x_test),
        y_test=y_test,
        num_classes=int(raw.y_train.max()) + 1,
        input_shape=raw.x_train.shape[1:],
        standardisation=standardisation,
        fingerprint=fingerprint,
    )


def _part(raw: Raw, rest: Array, options: Data, rng: np.random.Generator) -> tuple[Array, Array, Standardisation]:
    """(validation, training, the standardisation by the training part) of what is no test part."""
    valid, train = _split(rest, raw.y_train, options.validation, rng, raw.name, "data.validation")
    train = _limited(raw, train, options, rng)
    return valid, train, _standardisation(raw, train)


def _fold(raw: Raw, rest: Array, options: Data, number: int) -> tuple[Array, Array]:
    """(validation, training) of a fold, every class in proportion; after the last that fits, the pictures are shuffled anew."""
    rounds, place = divmod(number, max(1, int(1 / options.validation + 1e-9)))
    rng = np.random.default_rng([options.seed, 1 + rounds])
    valid = []
    for label in range(int(raw.y_train.max()) + 1):
        members = rng.permutation(rest[raw.y_train[rest] == label])
        first, last = (round(options.validation * len(members) * end) for end in (place, place + 1))
        last = min(max(last, first + 1), len(members))
        valid.append(members[min(first, last - 1) : last])
    held = np.sort(np.concatenate(valid))
    train = _limited(raw, np.setdiff1d(rest, held), options, np.random.default_rng([options.seed, 1 + rounds, place]))
    return held, train


def _limited(raw: Raw, train: Array, options: Data, rng: np.random.Generator) -> Array:
    """As many of the training pictures as the config allows."""
    if not 0 < options.train_limit < len(train):
        return train
    return _split(train, raw.y_train, options.train_limit / len(train), rng, raw.name, "data.train_limit")[0]


def _fingerprint(raw: Raw, options: Data) -> str:
    parting = (options.validation, options.test if raw.x_test is None else None, options.train_limit, options.seed)
    return hashlib.sha256(f"{raw.fingerprint()} {parting}".encode()).hexdigest()


def _split(indices: Array, labels: Array, share: float, rng: np.random.Generator, name: str, key: str) -> tuple[Array, Array]:
    """(share, rest) of the indices, every class in proportion and in both parts, each in ascending order.

    Written out because scikit-learn's split costs every worker a second of imports and refuses small classes.
    """
    taken, left = [], []
    for label in range(int(labels.max()) + 1):
        members = rng.permutation(indices[labels[indices] == label])
        if len(members) < 2:
            saw = f"class {label} has {len(members)} of the pictures to be parted"
            raise UserError(f"{name}, {key}", saw=saw, wanted="at least 2 a class", cause="bad_data")
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        taken.append(members[:count])
        left.append(members[count:])
    return np.sort(np.concatenate(taken)), np.sort(np.concatenate(left))


def _standardisation(raw: Raw, train: Array) -> Standardisation:
    """Mean and standard deviation per channel; a constant channel is only shifted."""
    scale = raw.scale or (255.0 if raw.x_train.dtype == np.uint8 else 1.0)
    pictures = raw.x_train[train]
    mean = pictures.mean(axis=(0, 1, 2), dtype=np.float64) / scale
    std = pictures.std(axis=(0, 1, 2), dtype=np.float64) / scale
    return Standardisation(scale, tuple(mean.tolist()), tuple(np.where(std > 1e-8, std, 1.0).tolist()))
