"""A training recipe: optimizer, learning rate over time, regularisation. Seed, candidates and baselines share one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optax  # type: ignore[import-untyped]

from alphanas.scoring.distillation import Distillation

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("default", "highest", "bfloat16")

# Keys of the configuration's training table that say when and how often to train, not how.
KERNELS = ("measured", "fixed")
_ABOUT_THE_SEARCH = frozenset(
    {"short_epochs", "rungs", "promote", "seed_epochs", "early_stop", "inherit", "time_limit", "stall_limit"}
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. Raises ValueError for an optimizer or schedule that does not exist, or sizes below one."""

    optimizer: str = "adamw"
    learning_rate: float = 0.003
    schedule: str = "cosine"
    warmup: float = 0.1
    """Share of the steps over which the learning rate rises linearly to its peak."""
    momentum: float = 0.9
    """Nesterov momentum of sgd; the other optimizers do not read it."""
    weight_decay: float = 0.0005
    """Decoupled, of the weights that start at random: norms and biases do not decay. adam has none."""
    label_smoothing: float = 0.0
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0: not clipped."""
    batch_size: int = 64
    epochs: int = 30
    augment: str = "none"
    soft_labels: float = 0.0
    """Share of a teacher's softened outputs in the loss; where there is no teacher, this and the next two are not read."""
    temperature: float = 4.0
    attention_transfer: float = 0.0
    """Weight of the difference of attention maps between a teacher and its student."""
    precision: str = "default"
    """Of matrix products and convolutions in training: the device's default, "highest", or "bfloat16" with float32 sums."""

    kernels: str = "fixed"
    """How convolutions are computed: "fixed" by a rule, or as "measured" here, once a shape."""

    def __post_init__(self) -> None:
        if self.kernels not in KERNELS:
            raise ValueError(f"the recipe's kernels are {self.kernels!r}; known are {', '.join(KERNELS)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"the recipe's optimizer is {self.optimizer!r}; known are {', '.join(OPTIMIZERS)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"the recipe's schedule is {self.schedule!r}; known are {', '.join(SCHEDULES)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"the recipe's precision is {self.precision!r}; known are {', '.join(PRECISIONS)}")
        if self.batch_size < 1 or self.epochs < 0:
            raise ValueError(f"a recipe wants batches of at least 1 and epochs of at least 0; got {self.batch_size}, {self.epochs}")

    @staticmethod
    def from_mapping(mapping: Mapping[str, Any]) -> Recipe:
        """The recipe in a configuration's training table; ValueError names a key that is none."""
        names = {field.name for field in dataclasses.fields(Recipe)}
        unknown = sorted(set(mapping) - names - _ABOUT_THE_SEARCH)
        if unknown:
            raise ValueError(f"a recipe has no {', '.join(unknown)}; it has {', '.join(sorted(names))}")
        return Recipe(**{name: value for name, value in mapping.items() if name in names})

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at a step of so many: a linear rise, then half a cosine to zero, or constant."""
        rise = max(1, round(self.warmup * steps))
        if step < rise and self.warmup > 0:
            return self.learning_rate * (step + 1) / rise
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - rise + 1) / max(1, steps - rise + 1)))

    @property
    def decay(self) -> float:
        """The weight decay that the optimizer applies."""
        return 0.0 if self.optimizer == "adam" else self.weight_decay

    @property
    def distillation(self) -> Distillation:
        """How much a teacher counts, if there is one."""
        return Distillation(self.soft_labels, self.temperature, self.attention_transfer)

    @property
    def rule(self) -> Rule:
        """What the optimizer makes of a gradient, before learning rate and weight decay."""
        return Rule(self.optimizer, self.momentum if self.optimizer == "sgd" else 0.0, self.clip_norm, self.precision)


@dataclass(frozen=True)
class Rule:
    """The part of a recipe that is compiled into a training step."""

    optimizer: str
    momentum: float
    clip_norm: float
    precision: str = "default"

    def transformation(self) -> optax.GradientTransformation:
        """The rule as optax has it."""
        turn = optax.trace(decay=self.momentum, nesterov=True) if self.optimizer == "sgd" else optax.scale_by_adam()
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), turn) if self.clip_norm > 0 else turn
