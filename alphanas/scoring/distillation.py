"""Learning from a teacher beside the labels: its logits, softened, and where it looks (attention transfer).

Loss = (1 - soft) CE + soft T² KL(teacher || student at temperature T) + attention Σ mean((f(A_s) - f(A_t))²), with f(A) the mean of
A² over the channels, flattened over positions and normalised to length 1 for each picture; nothing of the teacher gets a gradient.
Source: Hinton et al. 2015 for the logits; Zagoruyko and Komodakis 2017 for the maps, in the mean-squared form of Moonshine (Crowley
et al. 2018), whose weight is 1000 and whose taps are the ends of three stages.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synth import Graph
from synth.graph import Variables

LONGEST = 3
"""Taps at most, as Moonshine has them."""
TINY = 1e-12


@dataclass(frozen=True)
class Distillation:
    """How much a teacher counts: share of its soft labels in [0, 1], their temperature, and the weight of attention transfer."""

    soft: float = 0.0
    temperature: float = 4.0
    attention: float = 0.0

    @property
    def any(self) -> bool:
        """Whether a teacher is listened to at all."""
        return self.soft > 0 or self.attention > 0


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained graph with the same inputs and classes as its students."""

    graph: Graph
    variables: Variables


def shared_taps(teacher: Graph, student: Graph) -> tuple[tuple[str, str], ...]:
    """(teacher's value, student's value) at the ends of the last three stages that both have.

    A stage is what has the same positions (all axes but the first and the last); its end is its last value. A network that never
    changes its positions has one stage, and one without positions none.
    """
    mine, theirs = _stage_ends(student), _stage_ends(teacher)
    return tuple((theirs[positions], mine[positions]) for positions in theirs if positions in mine)[-LONGEST:]


def _stage_ends(graph: Graph) -> dict[tuple[int | None, ...], str]:
    """Positions → the last value that has them, in the order of these values."""
    ends: dict[tuple[int | None, ...], str] = {}
    for node in graph.nodes:
        positions = graph.values[node.name].shape[1:-1]
        if positions and math.prod(size or 1 for size in positions) > 1:
            ends.pop(positions, None)
            ends[positions] = node.name
    return ends


def tapped(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph with its first output and the named values as outputs."""
    return Graph(graph.inputs, graph.nodes, (graph.outputs[0], *names))


def look(teacher: Teacher, names: tuple[str, ...], pictures: np.ndarray[Any, Any]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """(logits, attention maps at the named values) of a teacher in inference."""
    logits, *values = _inference(teacher.graph, names)(teacher.variables, pictures)
    return logits, tuple(values)


@functools.lru_cache(maxsize=4)
def _inference(graph: Graph, names: tuple[str, ...]) -> Any:
    wanted = tapped(graph, names).pruned()

    def run(variables: Variables, pictures: jax.Array) -> tuple[jax.Array, ...]:
        found = wanted.apply(variables, pictures)
        logits, *values = found if isinstance(found, tuple) else (found,)
        return (logits, *map(attention_map, values))

    return jax.jit(run)


def attention_map(values: jax.Array) -> jax.Array:
    """[pictures, positions] of [pictures, *positions, channels]: the mean square over channels, each picture's of length 1."""
    energy = jnp.mean(jnp.square(values), axis=-1).reshape(values.shape[0], -1)
    return energy * jax.lax.rsqrt(jnp.sum(jnp.square(energy), axis=-1, keepdims=True) + TINY)


def soft_loss(student: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """T² KL(teacher || student) of softened logits, the mean over pictures; 0 where they are equal."""
    wanted = jax.nn.log_softmax(teacher / temperature)
    had = jax.nn.log_softmax(student / temperature)
    return temperature**2 * jnp.mean(jnp.sum(jnp.exp(wanted) * (wanted - had), axis=-1))


def attention_loss(student: Sequence[jax.Array], taught: Sequence[jax.Array]) -> jax.Array:
    """Σ over taps of the mean square difference of attention maps, of a student's values and a teacher's maps."""
    parts = [jnp.mean(jnp.square(attention_map(values) - wanted)) for values, wanted in zip(student, taught, strict=True)]
    return sum(parts, start=jnp.zeros(()))
