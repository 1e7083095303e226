"""Convolutions and attention in machine code of our own, for training on CPUs: compiled from C when they are first asked for.

The library is kept in the cache folder (`$ALPHANAS_CACHE`, or `alphanas` in the user's cache folder) under a name that hangs on the
source, the compiler, JAX's version and what the processor can do. Where nothing can be kept it is compiled for this process alone;
where there is no C compiler (`$CC`, or `cc`), nothing is `available` and what XLA makes is what there is.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from synth.cache import cache_folder

HEADER, *SOURCES = (Path(__file__).parent / name for name in ("shared.h", "convolutions.c", "attention.c"))
HANDLERS = ("convolution_output", "convolution_input_slope", "convolution_kernel_slope", "attention_output", "attention_slopes")
TIMEOUT_S = 120.0

Pair = tuple[int, int]

# XLA takes a name once in a process: whoever asks again, from another thread or with another cache folder, gets this one.
_LOADED: list[ctypes.CDLL] = []
_LOADING = threading.Lock()


def geometry(
    batch: int,
    channels: int,
    features: int,
    groups: int,
    *,
    input: Pair,
    window: Pair,
    output: Pair,
    stride: Pair,
    dilation: Pair,
    low: Pair,
) -> np.ndarray:
    """A convolution over two axes as the library reads it; `low` is the padding before the first position of each axis."""
    return np.array([batch, *input, channels, *window, features, *output, *stride, *dilation, *low, groups], np.int64)


def product(name: str, result: tuple[int, ...], numbers: np.ndarray, left: jax.Array, right: jax.Array) -> jax.Array:
    """A product of a convolution, float32, traced.

    output: (input, kernel) to the output; input_slope and kernel_slope: (slope, kernel) and (input, slope) to those.
    """
    (found,) = _called(f"convolution_{name}", (result,), geometry=numbers)(left, right)
    return found


def attention(sizes: np.ndarray, query: jax.Array, key: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(the means of the values by the softmax of the products, the logarithms of the sums of its exponentials), float32, traced.

    Arrays are batch, positions, heads and features; `sizes` are batch, queries, keys, heads, features of keys, features of values,
    and whether a query sees only the keys up to its own position.
    """
    batch, queries, _, heads, _, outputs, _ = map(int, sizes)
    shapes = (batch, queries, heads, outputs), (batch, heads, queries)
    out, logarithms = _called("attention_output", shapes, sizes=sizes)(query, key, value)
    return out, logarithms


def attention_slopes(sizes: np.ndarray, *operands: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The slopes of query, key and value, of those three, `attention`'s two results and the slope of its first."""
    to_query, to_key, to_value = _called("attention_slopes", [each.shape for each in operands[:3]], sizes=sizes)(*operands)
    return to_query, to_key, to_value


def _called(name: str, results: Sequence[tuple[int, ...]], **numbers: np.ndarray) -> Callable[..., Sequence[jax.Array]]:
    if not available():
        raise RuntimeError("there is no library of native kernels here: ask `available` first")
    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in results]
    call = jax.ffi.ffi_call(_target(name), shapes, vmap_method="sequential")
    return lambda *operands: call(*operands, **numbers)


@functools.cache
def available() -> bool:
    """Whether the library is there, or could be compiled; it is loaded then."""
    compiler = _compiler()
    if compiler is None:
        return False
    folder = _folder()
    if folder is not None:
        kept = _kept(compiler, folder)
        if kept is not None:
            return _loaded(kept)
    with tempfile.TemporaryDirectory() as passing:
        path = Path(passing) / "library.so"
        return _compiled(compiler, path) and _loaded(path)


def _target(name: str) -> str:
    return f"alphanas_{name}"


def _compiler() -> tuple[str, ...] | None:
    """The command that compiles for this very processor; None where there is no compiler."""
    command = shlex.split(os.environ.get("CC", "cc"))
    if not command or shutil.which(command[0]) is None:
        return None
    here = "-march=native" if platform.machine().lower() in ("x86_64", "amd64", "i686") else "-mcpu=native"
    return (*command, "-std=gnu11", "-O3", here, "-shared", "-fPIC", f"-I{jax.ffi.include_dir()}")


def _folder() -> Path | None:
    base = cache_folder()
    return None if base is None else base / "native"


def _kept(compiler: tuple[str, ...], folder: Path) -> Path | None:
    """The library in the folder, compiled now if it is not there; None where it cannot be put there."""
    sources = b"|".join(path.read_bytes() for path in (HEADER, *SOURCES))
    parts = (sources, repr(compiler).encode(), version("jaxlib").encode(), _processor().encode())
    path = folder / f"kernels-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:24]}.so"
    if path.exists():
        return path
    try:
        # Loading a library runs its code: nobody else may write here.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            if not _compiled(compiler, Path(made) / path.name):
                return None
            os.replace(Path(made) / path.name, path)
    except OSError:
        return None
    return path


def _compiled(compiler: tuple[str, ...], path: Path) -> bool:
    try:
        done = subprocess.run((*compiler, *map(str, SOURCES), "-o", str(path)), capture_output=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _loaded(path: Path) -> bool:
    with _LOADING:
        if _LOADED:
            return True
        try:
            library = ctypes.CDLL(str(path))
        except OSError:  # damaged, or of another system
            return False
        for name in HANDLERS:
            handler = jax.ffi.pycapsule(getattr(library, name))
            jax.ffi.register_ffi_target(_target(name), handler, platform="cpu")
        _LOADED.append(library)
        return True


def _processor() -> str:
    """What decides which instructions a compiler may use here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))))
