"""Pictures as a source has them, and what they must look like."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphanas.errors import Fault, UserError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Raw:
    """Pictures (uint8 or float, NHWC or NHW) with labels; `x_test` is None where the source has no test part of its own."""

    name: str
    x_train: Array
    y_train: Array
    x_test: Array | None = None
    y_test: Array | None = None
    scale: float | None = None
    """What pixels are divided by; None: 255 for uint8, 1 for floats."""

    def fingerprint(self) -> str:
        """sha256 over dtype, shape and content of every array."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            if array is None:
                digest.update(b"none;")
                continue
            digest.update(f"{array.dtype.str}{array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def checked(raw: Raw) -> Raw:
    """The same pictures as NHWC with int32 labels; `UserError` with all that is wrong with them."""
    faults = [
        *_picture_faults(raw.name, "x_train", raw.x_train),
        *_label_faults(raw.name, "y_train", raw.y_train, raw.x_train),
    ]
    if raw.x_test is not None and raw.y_test is not None:
        faults += _picture_faults(raw.name, "x_test", raw.x_test)
        faults += _label_faults(raw.name, "y_test", raw.y_test, raw.x_test)
    if not faults:
        faults = _agreement_faults(raw)
    if faults:
        raise UserError(faults, cause="bad_data")
    x_test, y_test = raw.x_test, raw.y_test
    return Raw(
        raw.name,
        _nhwc(raw.x_train),
        raw.y_train.astype(np.int32),
        None if x_test is None else _nhwc(x_test),
        None if y_test is None else y_test.astype(np.int32),
        raw.scale,
    )


def _nhwc(pictures: Array) -> Array:
    return pictures[..., None] if pictures.ndim == 3 else pictures


def _picture_faults(name: str, key: str, pictures: Array) -> list[Fault]:
    thing = f"{name}, {key}"
    if pictures.ndim not in (3, 4):
        return [Fault(thing, f"shape {pictures.shape}", "(pictures, height, width) or (pictures, height, width, channels)")]
    if 0 in pictures.shape:
        return [Fault(thing, f"shape {pictures.shape}, which is empty", "at least one picture of at least one pixel")]
    if pictures.dtype != np.uint8 and pictures.dtype.kind != "f":
        return [Fault(thing, f"dtype {pictures.dtype}", "uint8 (0..255) or floats")]
    if pictures.dtype.kind == "f" and not np.isfinite(pictures).all():
        return [Fault(thing, "not a number or infinite pixels", "finite pixels", "clean the pictures")]
    return []


def _label_faults(name: str, key: str, labels: Array, pictures: Array) -> list[Fault]:
    thing = f"{name}, {key}"
    if labels.ndim != 1:
        hint = f"flatten it: {key}.reshape(-1)" if labels.size == len(labels) > 0 else ""
        return [Fault(thing, f"shape {labels.shape}", "one label a picture, shape (pictures,)", hint)]
    if labels.dtype.kind not in "iu":
        return [Fault(thing, f"dtype {labels.dtype}", "whole numbers 0..classes-1")]
    if pictures.ndim > 0 and len(labels) != len(pictures):
        return [Fault(thing, f"{len(labels)} labels for {len(pictures)} pictures", "one label a picture")]
    if len(labels) and int(labels.min()) < 0:
        return [Fault(thing, f"label {int(labels.min())}", "labels 0..classes-1")]
    return []


def _agreement_faults(raw: Raw) -> list[Fault]:
    classes = np.unique(raw.y_train)
    count = int(classes[-1]) + 1
    if len(classes) < 2:
        return [Fault(f"{raw.name}, y_train", f"the single class {classes[0]}", "at least two classes")]
    if len(classes) < count:
        missing = int(np.setdiff1d(np.arange(min(count, len(classes) + 1)), classes)[0])
        return [Fault(f"{raw.name}, y_train", f"labels up to {count - 1} but none is {missing}", "every label of 0..classes-1")]
    if raw.x_test is None or raw.y_test is None:
        return []
    faults = []
    if _nhwc(raw.x_test).shape[1:] != _nhwc(raw.x_train).shape[1:]:
        faults.append(
            Fault(
                f"{raw.name}, x_test",
                f"pictures of shape {raw.x_test.shape[1:]}",
                f"{raw.x_train.shape[1:]} as x_train",
            )
        )
    if raw.x_test.dtype != raw.x_train.dtype:
        faults.append(Fault(f"{raw.name}, x_test", f"dtype {raw.x_test.dtype}", f"{raw.x_train.dtype} as x_train"))
    if int(raw.y_test.max()) >= count:
        faults.append(Fault(f"{raw.name}, y_test", f"label {int(raw.y_test.max())}", f"labels 0..{count - 1} as in y_train"))
    return faults
