"""Training one graph by a recipe, and evaluating it. Divergence and running out of time are outcomes, not errors.

Time goes into compilation as much as into arithmetic: a network of a few ten thousand parameters trains in a second or two and
compiles in as long. So there is one compiled step for a graph and batch size (a loop over the steps inside the compiled function
makes convolutions ten times slower on CPUs), all weights are one vector in it, numbers that change between runs (learning rate,
weight decay) are arguments, and compiled steps are kept for the next seed and for a longer run.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax  # type: ignore[import-untyped]

from alphanas.execution import notes
from alphanas.scoring import lessons
from alphanas.scoring.augment import AUGMENTATIONS
from alphanas.scoring.compiled import CPU_OPTIONS, predict
from alphanas.scoring.distillation import Distillation, Teacher, attention_loss, look, shared_taps, soft_loss, tapped
from alphanas.scoring.packing import Packing
from alphanas.scoring.recipe import Recipe, Rule
from synth import Graph
from synth.graph import Variables
from synth.ops.formulations import Plan, using

EVALUATION_BATCH = 256

# Streams of chance that a seed is split into.
_ORDER, _KEYS = 0, 1

Array = np.ndarray[Any, Any]
Stopped = Literal["finished", "diverged", "time_limit", "hopeless"]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training run came to: its variables, how it stopped, and the mean loss of each epoch."""

    variables: Variables
    stopped: Stopped
    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    """Wall time of each epoch; the first one's has the compilation in it."""

    @property
    def epochs(self) -> int:
        """Epochs begun."""
        return len(self.losses)


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (0..1) and mean cross-entropy in inference over labelled pictures."""

    accuracy: float
    loss: float


def train(
    graph: Graph,
    pictures: Array,
    labels: Array,
    recipe: Recipe,
    *,
    seed: int,
    start: Variables | None = None,
    teacher: Teacher | None = None,
    kept: Path | None = None,
    deadline: float | None = None,
    kernels: Mapping[str, Plan] | None = None,
    hopeless: Callable[[Variables], bool] | None = None,
) -> Trained:
    """Trains a classifier: pictures as float32 in the graph's input shape, labels 0.., logits as the graph's only output.

    The same seed gives the same weights on the same machine. Every step is reported as progress of the worker's task. `start`
    replaces the initial weights. A `teacher` counts as the recipe says, on the same pictures, augmented alike; what it says of
    them is `kept` in a folder for the next student. `deadline`, on the clock of `time.monotonic`, is looked at after every epoch.
    A loss or weight that is not finite ends the run: `stopped` is "diverged". `kernels` are the plans of convolutions that have
    several formulations, by key; the others go by the fixed rule. `hopeless` is asked after every epoch, with the weights, and
    ends the run where it says so.
    Raises ValueError if the graph is no classifier of these pictures.
    """
    _check(graph, pictures, labels)
    variables = graph.init(jax.random.key(seed)) if start is None else start
    batch = min(recipe.batch_size, len(pictures))
    per_epoch = len(pictures) // batch
    steps = recipe.epochs * per_epoch
    distillation = recipe.distillation if teacher is not None else Distillation()
    taps = shared_taps(teacher.graph, graph) if teacher is not None and distillation.attention > 0 else ()
    students = tuple(student for _, student in taps)
    planned = tuple(sorted((kernels or {}).items()))
    step = compiled_step(graph, batch, recipe.rule, recipe.label_smoothing, distillation, students, planned)
    carry = step.begin(variables)
    decay = _decays(graph, step.params) * np.float32(recipe.decay)
    keys = np.random.default_rng([seed, _KEYS]).integers(0, 2**32, (steps, 2), np.uint32)
    losses: list[float] = []
    seconds: list[float] = []
    stopped: Stopped = "finished"
    for epoch in range(recipe.epochs):
        began = time.monotonic()
        rng = np.random.default_rng([seed, _ORDER, epoch])
        order = rng.permutation(len(pictures))[: per_epoch * batch]
        shown, wanted = AUGMENTATIONS[recipe.augment](rng, pictures[order]), labels[order]
        said = lessons.logits(teacher, shown, batch, kept) if teacher is not None and distillation.any and not taps else None
        total = []
        for index in range(per_epoch):
            number = epoch * per_epoch + index
            rate = np.float32(recipe.rate(number, steps))
            rows = slice(index * batch, (index + 1) * batch)
            taught: Any = None if said is None else (said[rows], ())
            if teacher is not None and taps:
                taught = look(teacher, tuple(name for name, _ in taps), shown[rows])
            carry, loss = step.run(carry, decay, rate, keys[number], shown[rows], wanted[rows], taught)
            total.append(loss)
            notes.progress()
        losses.append(float(np.mean(jax.device_get(total))))
        seconds.append(time.monotonic() - began)
        if not np.isfinite(losses[-1]):
            stopped = "diverged"
            break
        if hopeless is not None and hopeless(step.end(carry)):
            stopped = "hopeless"
            break
        if deadline is not None and time.monotonic() > deadline and epoch + 1 < recipe.epochs:
            stopped = "time_limit"
            break
    variables = step.end(carry)
    sound = all(np.isfinite(array).all() for arrays in variables["params"].values() for array in arrays.values())
    return Trained(variables, stopped if sound else "diverged", tuple(losses), tuple(seconds))


def evaluate(graph: Graph, variables: Variables, pictures: Array, labels: Array) -> Evaluation:
    """Accuracy and loss in inference mode; NaN logits count as wrong, and make the loss NaN."""
    logits = logits_of(graph, variables, pictures)
    shifted = logits - logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    right = (logits.argmax(-1) == labels) & np.isfinite(logits).all(-1)
    return Evaluation(float(right.mean()), float(-log_probability[np.arange(len(labels)), labels].mean()))


def logits_of(graph: Graph, variables: Variables, pictures: Array) -> Array:
    """The graph's outputs in inference, in batches of one size, so that nothing is compiled twice."""
    batches = []
    for first in range(0, len(pictures), EVALUATION_BATCH):
        rows = pictures[first : first + EVALUATION_BATCH]
        padding = ((0, EVALUATION_BATCH - len(rows)), *((0, 0),) * (rows.ndim - 1))
        notes.progress()
        batches.append(np.asarray(predict(graph, variables, np.pad(rows, padding)))[: len(rows)])
    return np.concatenate(batches).astype(np.float64)


def _check(graph: Graph, pictures: Array, labels: Array) -> None:
    outputs = [graph.values[name] for name in graph.outputs]
    if len(graph.inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise ValueError(
            f"a classifier has one input and one output of (batch, classes); this graph has {', '.join(map(str, outputs))}"
        )
    if graph.inputs[0].shape[1:] != pictures.shape[1:]:
        raise ValueError(f"the graph takes pictures of {graph.inputs[0].value}, the data has {pictures.shape[1:]}")
    if outputs[0].channels <= int(labels.max()):
        raise ValueError(f"the graph has {outputs[0].channels} outputs, the data labels up to {int(labels.max())}")


def _decays(graph: Graph, packing: Packing) -> Array:
    """1 where a weight decays and 0 elsewhere, as the vector of all weights: what starts at a constant (norms, biases) does not."""
    owned = {node.name: graph.owned(node)["params"] for node in graph.nodes}
    flags = {
        node: {name: np.full(weight.shape, float(weight.initializer not in ("zeros", "ones"))) for name, weight in weights.items()}
        for node, weights in owned.items()
    }
    return packing.pack(flags)


@dataclass(frozen=True, eq=False)
class _Step:
    """A compiled optimizer step on a vector of weights, a vector of state and the optimizer's own state."""

    run: Callable[..., Any]
    turn: optax.GradientTransformation
    params: Packing
    state: Packing

    def begin(self, variables: Variables) -> Any:
        weights = self.params.pack(variables["params"])
        memory = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(self.turn.init, weights))
        return jax.device_put((weights, self.state.pack(variables["state"]), memory))

    def end(self, carry: Any) -> Variables:
        weights, state, _ = jax.device_get(carry)
        return {"params": self.params.unpack(weights), "state": self.state.unpack(state)}


@functools.lru_cache(maxsize=16)
def compiled_step(
    graph: Graph,
    batch: int,
    rule: Rule,
    smoothing: float,
    distillation: Distillation,
    taps: tuple[str, ...],
    kernels: tuple[tuple[str, Plan], ...],
) -> _Step:
    """The step of a graph on batches of one size: compiled when it is first run, and kept."""
    turn = rule.transformation()
    template = graph.init(jax.random.key(0))
    params, state_packing = Packing.of(template["params"]), Packing.of(template["state"])
    watched = tapped(graph, taps) if taps else graph

    def step(
        carry: Any, decay: jax.Array, rate: jax.Array, key: jax.Array, pictures: jax.Array, labels: jax.Array, taught: Any
    ) -> Any:
        weights, state, memory = carry

        def loss_of(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
            variables = {"params": params.unpack(weights), "state": state_packing.unpack(state)}
            found, new = watched.apply(variables, pictures, train=True, rng=jax.random.wrap_key_data(key))
            logits, *values = found if taps else (found,)
            targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
            loss = optax.softmax_cross_entropy(logits, targets).mean()
            if taught is not None:
                wanted, maps = taught
                loss = (1.0 - distillation.soft) * loss
                loss += distillation.soft * soft_loss(logits, wanted, distillation.temperature)
                loss += distillation.attention * attention_loss(values, maps)
            return loss, state_packing.pack_traced(new["state"])

        (loss, state), gradient = jax.value_and_grad(loss_of, has_aux=True)(weights)
        direction, memory = turn.update(gradient, memory)
        return (weights - rate * (direction + decay * weights), state, memory), loss

    def precisely(*arguments: Any) -> Any:
        with jax.default_matmul_precision(rule.precision), using(dict(kernels)):
            return step(*arguments)

    options = CPU_OPTIONS if jax.default_backend() == "cpu" else None
    return _Step(jax.jit(precisely, donate_argnums=0, compiler_options=options), turn, params, state_packing)
