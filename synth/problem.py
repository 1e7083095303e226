"""What is asked of synthesis: programs of some vocabulary from one type that meet a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from properties import Property, RelationalProperty, Requirement, ShapeRequirement, needed
from synth.effect import macs, params, size_fields
from synth.graph import Graph, GraphError
from synth.op import Op, Value
from synth.ops import OPS, Vocabulary
from synth.region import Region
from synth.target import Target

Cost = Callable[[Op, Value], float]
"""What one op on one input costs; a program's cost is the sum over its ops."""


@dataclass(frozen=True)
class Problem:
    """Programs from `value`, of at most `max_length` ops of `vocabulary`, that meet `target`.

    `sizes` are the channel counts that programs are made with. `widths`, if given, are the counts to which the sizes of a finished
    sequence may be set anew to meet the budget. `prior` draws by good taste; without it every program is equally likely.
    `properties` are what the target's requirements read, beyond what is always inferred and what they say themselves. `cost` is
    what is least in the cheapest program: "params", "macs", "ops", or a function of an op and its input, such as a table of
    latencies. With a `temperature` a program's odds of being drawn are multiplied by exp(-cost / temperature), the cost of its
    sizes as they are in `sizes`. `others` are the types of further inputs; a program with several inputs, or with several outputs
    that the target gives a shape, is no sequence.
    """

    value: Value
    target: Target
    max_length: int = 6
    sizes: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    vocabulary: Vocabulary = field(default_factory=lambda: dict(OPS), compare=False)
    prior: bool = True
    properties: tuple[Property, ...] = ()
    cost: str | Cost = "params"
    temperature: float | None = None
    others: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if self.max_length < 0:
            raise ValueError(f"max_length must not be negative, got {self.max_length}")
        if any(size < 1 for size in (*self.sizes, *self.widths)):
            raise ValueError("sizes and widths must be positive")
        if self.temperature is not None and self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature:g}")
        cost_of(self)

    @property
    def asked(self) -> tuple[Property, ...]:
        """What must be inferred of a program to tell whether it meets the target."""
        return needed(self.target.requirements, *self.properties)

    @property
    def composed(self) -> tuple[RelationalProperty, ...]:
        """Those among them that a sequence's ops compose to."""
        return tuple(each for each in self.asked if isinstance(each, RelationalProperty))

    @property
    def values(self) -> tuple[Value, ...]:
        """The types of all inputs."""
        return self.value, *self.others

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return 1 + max((each.output for each in self.target.requirements if isinstance(each, ShapeRequirement)), default=0)

    @staticmethod
    def of(subject: Graph | Region, target: Target | None = None, *, longer: int = 2, **options: object) -> Problem:
        """The problem of replacing a graph or region: up to `longer` ops more than it has, with its own channel counts.

        Raises GraphError if it has no input.
        """
        graph = subject.subgraph() if isinstance(subject, Region) else subject
        if not graph.inputs:
            raise GraphError("a piece without inputs computes a constant: there is nothing to synthesize")
        problem = Problem(
            graph.inputs[0].value,
            target.shaped(graph.values[graph.outputs[0]].shape) if target else Target.of(graph),
            max_length=len(graph.nodes) + longer,
            sizes=tuple(sorted(_counts(graph))),
            others=tuple(item.value for item in graph.inputs[1:]),
        )
        return replace(problem, **options)  # type: ignore[arg-type]


def left_to_proof(requirement: Requirement) -> bool:
    """Whether a requirement is about more than relations, so that it can be asked of finished programs only."""
    return not all(isinstance(each, RelationalProperty) for each in needed([requirement]))


def params_of(op: Op, value: Value) -> float:
    """The cost of an op in parameters."""
    return params(op, (value,))


def macs_of(op: Op, value: Value) -> float:
    """The cost of an op in multiply-adds."""
    return macs(op, (value,))


def ops_of(op: Op, value: Value) -> float:
    """The cost of an op as one."""
    return 1.0


COSTS: dict[str, Cost] = {"params": params_of, "macs": macs_of, "ops": ops_of}


def cost_of(problem: Problem) -> Cost:
    """The problem's cost as a function; ValueError for a name that is none."""
    if not isinstance(problem.cost, str):
        return problem.cost
    if problem.cost not in COSTS:
        raise ValueError(f"no cost is called {problem.cost!r}; known are {', '.join(COSTS)}")
    return COSTS[problem.cost]


def _counts(graph: Graph) -> Iterable[int]:
    """The channel counts that a graph uses."""
    ends = [*(item.value for item in graph.inputs), *(graph.values[name] for name in graph.outputs)]
    counts = {value.shape[-1] for value in ends if len(value.shape) > 1 and value.shape[-1] is not None}
    for node in graph.nodes:
        counts |= {getattr(node.op, name) for name in size_fields(type(node.op))}
    return counts


WIDTHS = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
"""Channel counts that suit vector units: multiples of four, and few of them so that compiled shapes repeat."""


def widths_up_to(largest: int) -> tuple[int, ...]:
    """The usual widths of at most `largest` channels."""
    return tuple(width for width in WIDTHS if width <= largest)
