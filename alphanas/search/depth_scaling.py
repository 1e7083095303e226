"""A baseline for new structure: the seed with blocks left out or repeated."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from alphanas.search.archive import Archive
from alphanas.search.edits import twice
from alphanas.search.proposal import Answer, Failure, New, Proposal
from alphanas.search.regions import spliced
from synth import Graph, Region
from synth.canonical import canonical
from synth.stages import Block, residual_blocks, without
from synth.target import Change
from synth.ties import ties


@dataclass(frozen=True)
class DepthScaling:
    """Leaves some of the seed's residual blocks out, drawn until the network was not proposed before; or repeats one."""

    repeat: float = 0.2
    tries: int = 64

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        started = time.monotonic()
        seed = archive.seed
        blocks = residual_blocks(seed.graph, ties(seed.graph))
        answer: Answer = Failure("nothing_to_change", "all depths were proposed before, or no residual block keeps its type")
        changes: tuple[Change, ...] = ()
        names: tuple[str, ...] = ()
        for _ in range(self.tries if blocks else 0):
            chosen, child, after = self._drawn(seed.graph, blocks, rng)
            if child is None or archive.repeats(child) is not None:
                continue
            answer, changes = New(canonical(child)), (Change("residual blocks", str(len(blocks)), str(after)),)
            gone = frozenset().union(*(block.names for block in chosen))
            names = tuple(node.name for node in seed.graph.nodes if node.name in gone)
            break
        return Proposal(seed.id, "depth", names, changes, answer, "", time.monotonic() - started)

    def _drawn(
        self, graph: Graph, blocks: tuple[Block, ...], rng: np.random.Generator
    ) -> tuple[tuple[Block, ...], Graph | None, int]:
        """(the blocks that change, the network or None, its number of blocks)"""
        if rng.random() < self.repeat:
            block = blocks[int(rng.integers(len(blocks)))]
            region = Region(graph, block.names)
            if len(region.inputs) != 1 or len(region.outputs) != 1:
                return (block,), None, len(blocks) + 1
            made = spliced(graph, region, twice(region.subgraph()))
            return (block,), made.graph if isinstance(made, New) else None, len(blocks) + 1
        count = int(rng.integers(1, len(blocks) + 1))
        chosen = tuple(blocks[index] for index in sorted(rng.choice(len(blocks), count, replace=False)))
        return chosen, without(graph, chosen), len(blocks) - count
