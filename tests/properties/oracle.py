"""The oracle: which inputs an output element depends on, read from Jacobians in float64 at random parameters and inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import properties

OPTIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclass(frozen=True)
class Program:
    """A function of parameters and one array, with the shapes to draw them from; `inexact` says why mixing may claim too much."""

    name: str
    function: Callable[..., Any]
    shape: tuple[int, ...] = (2, 5, 7, 6)
    params: tuple[tuple[int, ...], ...] = ()
    inexact: str = ""
    draws: int = 3
    reverse: bool = False

    def __str__(self) -> str:
        return self.name


def claim(program: Program, asked: Sequence[properties.Property] = properties.PROPERTIES) -> properties.Inference:
    """What is inferred, for an array of float64."""
    with jax.enable_x64(True):
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float64) for shape in (*program.params, program.shape)]
        return properties.infer(
            lambda params, x: program.function(*params, x), arguments[-1], params=tuple(arguments[:-1]), properties=asked
        )


def jacobians(program: Program, seed: int = 0) -> np.ndarray:
    """Jacobians at several random points: (draw, output element, input element)."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        params = [jnp.asarray(rng.normal(size=(program.draws, *shape)) / np.sqrt(4)) for shape in program.params]
        x = jnp.asarray(rng.normal(size=(program.draws, *program.shape)))

        def one(*arguments: Any) -> Any:
            jacobian = jax.jacrev if program.reverse else jax.jacfwd
            return jacobian(program.function, argnums=len(arguments) - 1)(*arguments)

        found = jax.jit(jax.vmap(one)).lower(*params, x).compile(OPTIONS)(*params, x)
        size = int(np.prod(program.shape))
        return np.asarray(found).reshape(program.draws, -1, size)


def matrix(pattern: np.ndarray, outputs: Sequence[int], inputs: Sequence[int]) -> np.ndarray:
    """Mixing read off a dependence pattern (outputs, inputs), by its definition."""
    full = pattern.reshape(*outputs, *inputs)
    result = np.zeros((len(inputs), len(outputs)), dtype=int)
    for i, size in enumerate(inputs):
        others = tuple(len(outputs) + k for k in range(len(inputs)) if k != i)
        reads = full.any(axis=others)  # (outputs…, position of input axis i)
        most = int(reads.sum(axis=-1).max(initial=0))
        strength = 1 if size == 1 or most == 1 else 3 if most == size else 2
        for o in range(len(outputs)):
            if reads.any(axis=o).all(axis=-1).any():
                result[i, o] = strength
    return result


def unclaimed(mixing: properties.Mixing, pattern: np.ndarray, outputs: Sequence[int], inputs: Sequence[int]) -> list[str]:
    """Dependences in the pattern that mixing does not allow, element by element."""
    full = pattern.reshape(*outputs, *inputs)
    found = []
    for index in np.ndindex(*outputs):
        for axis, allowed in enumerate(mixing.depends_on(index)):
            others = tuple(k for k in range(len(inputs)) if k != axis)
            reads = full[index].any(axis=others)
            if (reads & ~allowed).any():
                found.append(f"element {index} reads {np.flatnonzero(reads)} of axis {axis}, claimed {np.flatnonzero(allowed)}")
    return found


@functools.cache
def observed(program: Program) -> tuple[np.ndarray, np.ndarray]:
    """The dependence pattern, and the Jacobian at the first point."""
    values = jacobians(program)
    assert np.isfinite(values).all(), "the program is not finite at this point"
    return (values != 0).any(axis=0), values[0]
