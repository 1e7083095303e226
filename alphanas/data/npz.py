"""NumPy .npz files with x_train, y_train, x_test, y_test. Pickled objects are never loaded: a data file runs no code."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from alphanas.data.raw import Array, Raw
from alphanas.errors import Fault, UserError

KEYS = ("x_train", "y_train", "x_test", "y_test")
NEEDED = KEYS[:2]
# What NumPy's and zipfile's readers were seen to raise on files with bytes changed at random.
UNREADABLE = (
    ValueError,
    TypeError,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    KeyError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
FORM = "a NumPy .npz file with x_train, y_train, x_test, y_test"


def read(argument: str) -> Raw:
    """The four arrays of a file; without both test arrays, the test part is taken off the training part."""
    path = Path(argument)
    try:
        arrays = _arrays(path)
    except FileNotFoundError:
        raise UserError(f"data {path}", saw="no such file", wanted=FORM, remedy="mend data.source", cause="missing_file") from None
    except OSError as error:
        saw = error.strerror or str(error)
        raise UserError(f"data {path}", saw=saw, wanted=FORM, remedy="mend data.source", cause="missing_file") from None
    except UNREADABLE as error:
        raise UserError(f"data {path}", saw=f"unreadable ({error})", wanted=FORM, cause="bad_data") from None
    test_keys = [key for key in KEYS[2:] if key in arrays]
    if any(key not in arrays for key in NEEDED) or len(test_keys) == 1:
        seen = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(f"data {path}", saw=f"it holds {seen}", wanted=", ".join(KEYS), cause="bad_data")
    return Raw(path.name, *(arrays.get(key) for key in KEYS))  # type: ignore[arg-type]


def _arrays(path: Path) -> dict[str, Array]:
    loaded = np.load(path, allow_pickle=False)
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise ValueError("a single array, not an .npz archive")
    with loaded as archive:
        found = {}
        for key in KEYS:
            if key not in archive:
                continue
            value = archive[key]
            if not isinstance(value, np.ndarray):
                raise UserError([Fault(f"data {path}, {key}", "not an array", "an array")], cause="bad_data")
            found[key] = value
        return found or {name: np.zeros(0) for name in archive.files}
