"""Run in a process of its own: lifts models as users write them, lowers them, compares with JAX; prints JSON on the last line."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from alphanas.hardware.machine import this_machine, use_threads
from alphanas.models import lift
from tests.alphanas.hardware.cases import Case
from tests.alphanas.hardware.conformance import of_case
from tests.alphanas.models import architectures
from tests.alphanas.models.test_architectures import LINEN, NNX, numbers


def opaque(x: Any) -> Any:
    """Sorted, summed up, and weighed by places: nodes that lifting leaves as they are, among some that it knows."""
    weights = jax.nn.softmax(jnp.cumsum(jnp.sort(x), axis=1) @ jnp.swapaxes(x, 1, 2))
    return weights * jnp.argmax(x, -1)[..., None]


def names() -> list[str]:
    """The models' names, without making them."""
    return [*(f"nnx_{name}" for name in NNX), *(f"linen_{name}" for name in LINEN), "plain_opaque", "plain_transformer"]


def models() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Models by name, with inputs."""
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {}
    for name, (kind, inputs, _) in NNX.items():
        found[f"nnx_{name}"] = kind(nnx.Rngs(0)), inputs
    for name, (module, inputs, inference, _, _) in LINEN.items():
        made = module()
        found[f"linen_{name}"] = (made, made.init(jax.random.key(0), *inputs, **inference)), inputs
    found["plain_opaque"] = opaque, (numbers((5, 7)),)
    params = architectures.handwritten_params()
    found["plain_transformer"] = lambda x: architectures.handwritten(params, x), (numbers((6, 8)),)
    return found


def main() -> None:
    use_threads(2)
    machine = this_machine(2)
    errors = {}
    for name, (model, inputs) in models().items():
        graph, variables = lift(model, *inputs)
        errors[name] = of_case(Case(name, lambda *x, g=graph, v=variables: g.apply(v, *x), inputs), machine)
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
