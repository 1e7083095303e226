"""What a kernel is known by: the canonical form of what it computes, without names, without the numbers of slots, without TVM.

Two forms of each. Kernels of one exact form are one function. Kernels of one key run equally fast: numbers in them may differ, save
those that a compiler may treat as special (0, 1, -0.5, infinity, …).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alphanas.hardware.kernels import Kernel, Plan
from alphanas.hardware.program import Flat, Step, Storage, Type

IRRELEVANT = frozenset({"sharding", "out_sharding", "weak_type", "accuracy", "precision"})
"""Parameters of primitives that no kernel depends on."""
LARGEST_SPECIAL = 64


@dataclass(frozen=True)
class Identity:
    """`key` finds a kernel's records, `exact` its function; `leaves` are the slots that it may read, in the form's order."""

    key: str
    exact: str
    leaves: tuple[int, ...]


@dataclass(frozen=True)
class Texts:
    """How values of one plan are written, by slot: as what is read from memory, and as what is computed."""

    read: dict[int, str] = field(default_factory=dict)
    computed: dict[int, str] = field(default_factory=dict)


def identify(
    plan: Plan,
    producers: Mapping[int, Step],
    storages: Mapping[int, Storage],
    kernel: Kernel,
    lanes: int,
    texts: Texts | None = None,
) -> Identity:
    """The identity of a kernel of a plan; `storages` are those of the kernels before it.

    `texts` holds what earlier kernels of this plan were made of: most of it is met again.
    """
    flat, stored = plan.flat, plan.stored
    texts = texts or Texts()
    read, computed = texts.read, texts.computed
    parts = (*kernel.before, kernel)
    own = {part.output for part in parts}
    anchors = {part.anchor.output: number for number, part in enumerate(parts) if part.anchor is not None}
    numbers: dict[int, int] = {}
    form: list[str] = [f"lanes {lanes}"]
    leaves: list[int] = []
    values: list[tuple[int, np.ndarray]] = []

    def visit(slot: int) -> int:
        if slot in flat.constants:
            leaves.append(slot)
            if flat.types[slot].size == 1:
                values.append((len(form), flat.constants[slot]))
            entry = read.get(slot) or read.setdefault(slot, f"constant {_typed(flat.types[slot])}")
        elif slot in stored and slot not in own:
            leaves.append(slot)
            entry = read.get(slot) or read.setdefault(slot, _in_memory(flat, slot, storages.get(slot)))
        else:
            step = producers[slot]
            operands = [numbers[source] if source in numbers else visit(source) for source in step.inputs]
            text = computed.get(slot) or computed.setdefault(slot, _computed(flat, step))
            entry = f"{text} {operands} {anchors.get(slot)}"
        numbers[slot] = len(form)
        form.append(entry)
        return numbers[slot]

    form.append(repr([numbers[part.output] if part.output in numbers else visit(part.output) for part in parts]))
    text = "\n".join(form)
    exact = [(place, value.reshape(()).item()) for place, value in values]
    return Identity(_hash(text, [(place, _special(value)) for place, value in exact]), _hash(text, exact), tuple(leaves))


def _typed(kind: Type) -> str:
    return f"{kind.shape} {kind.dtype}"  # a dataclass takes three times as long to write itself


def _in_memory(flat: Flat, slot: int, storage: Storage | None) -> str:
    lies = "" if storage is None else f" {storage.shape} {storage.filled}"
    return f"memory {_typed(flat.types[slot])}{lies}"


def _computed(flat: Flat, step: Step) -> str:
    params = [(name, value) for name, value in step.params.items() if name not in IRRELEVANT]
    return f"{step.primitive} {params} {_typed(flat.types[step.output])}"


def _special(value: Any) -> Any:
    """The number itself where a compiler may make something of it; else None."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return value if abs(value) <= LARGEST_SPECIAL and float(2 * value).is_integer() else None


def _hash(text: str, values: list[tuple[int, Any]]) -> str:
    return hashlib.sha256(f"{text} {values!r}".encode()).hexdigest()[:32]
