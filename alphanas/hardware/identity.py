"""What a kernel is known by: the canonical form of what it computes, without names, without the numbers of slots, without TVM.

Two forms of each. Kernels of one exact form are one function. Kernels of one key run equally fast: numbers in them may differ, save
those that a compiler may treat as special (0, 1, -0.5, infinity, …).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphanas.hardware.kernels import Kernel, Plan
from alphanas.hardware.program import Step, Storage

IRRELEVANT = frozenset({"sharding", "out_sharding", "weak_type", "accuracy", "precision"})
"""Parameters of primitives that no kernel depends on."""
LARGEST_SPECIAL = 64


@dataclass(frozen=True)
class Identity:
    """`key` finds a kernel's records, `exact` its function; `leaves` are the slots that it may read, in the form's order."""

    key: str
    exact: str
    leaves: tuple[int, ...]


def identify(plan: Plan, producers: Mapping[int, Step], storages: Mapping[int, Storage], kernel: Kernel, lanes: int) -> Identity:
    """The identity of a kernel of a plan; `storages` are those of the kernels before it."""
    flat = plan.flat
    parts = (*kernel.before, kernel)
    own = {part.output for part in parts}
    anchors = {part.anchor.output: number for number, part in enumerate(parts) if part.anchor is not None}
    numbers: dict[int, int] = {}
    form: list[Any] = [("lanes", lanes)]
    leaves: list[int] = []
    values: list[tuple[int, np.ndarray]] = []

    def visit(slot: int) -> int:
        if slot in numbers:
            return numbers[slot]
        kind = flat.types[slot]
        entry: tuple[Any, ...]
        if slot in flat.constants:
            leaves.append(slot)
            if kind.size == 1:
                values.append((len(form), flat.constants[slot]))
            entry = ("constant", kind.shape, kind.dtype)
        elif slot in plan.stored and slot not in own:
            leaves.append(slot)
            stored = storages.get(slot)
            entry = ("memory", kind.shape, kind.dtype, *((stored.shape, stored.filled) if stored is not None else ()))
        else:
            step = producers[slot]
            operands = tuple([visit(source) for source in step.inputs])
            params = [(name, value) for name, value in step.params.items() if name not in IRRELEVANT]
            entry = (step.primitive, params, operands, kind.shape, kind.dtype, anchors.get(slot))
        numbers[slot] = len(form)
        form.append(entry)
        return numbers[slot]

    form.append([visit(part.output) for part in parts])
    text = repr(form)
    exact = [(place, value.reshape(()).item()) for place, value in values]
    return Identity(_hash(text, [(place, _special(value)) for place, value in exact]), _hash(text, exact), tuple(leaves))


def _special(value: Any) -> Any:
    """The number itself where a compiler may make something of it; else None."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return value if abs(value) <= LARGEST_SPECIAL and float(2 * value).is_integer() else None


def _hash(text: str, values: list[tuple[int, Any]]) -> str:
    return hashlib.sha256(f"{text} {values!r}".encode()).hexdigest()[:32]
