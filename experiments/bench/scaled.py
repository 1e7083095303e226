"""Other networks, trained as a study's finalists were.

    python -m experiments.bench.search scaled DIR MODEL … [--candidates ID … [--of DIR]]

The seed model at another width (`zoo:resnet18_cifar:7`), candidates that were no finalists, or another strategy's, by the study's
recipe, with its training seeds and partings of the pictures, on as many workers as it had; and what each reaches on the test part,
beside the study's seed model. Prints JSON. Nothing is written into the run folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import alphanas
from alphanas.execution import Completed, LocalPool
from alphanas.models import zoo
from alphanas.study import Study
from synth import Graph, macs

TRAIN = "alphanas.scoring.tasks:train"


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the networks and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="DIR", help="the folder of a study that is done")
    parser.add_argument("models", nargs="*", default=[], metavar="MODEL", help="of the zoo, for the study's pictures")
    parser.add_argument("--candidates", nargs="*", type=int, default=[], metavar="ID", help="of the study, or of another one")
    parser.add_argument("--of", metavar="DIR", help="the other study, on the same pictures; it need not be done")
    told = parser.parse_args(arguments)
    study = alphanas.open_study(told.run)
    graphs = {name: _of_zoo(name, study) for name in told.models}
    theirs = alphanas.open_study(told.of) if told.of else study
    graphs |= {f"#{number}": theirs.candidate(number).graph() for number in told.candidates}
    seeds = range(study.config["finish"]["seeds"])
    with LocalPool(study.config["workers"], threads=study.config["execution"]["threads"]) as pool:
        asked = {(name, seed): pool.submit(TRAIN, payload(study, graph, seed)) for name, graph in graphs.items() for seed in seeds}
        results = {key: handle.result() for key, handle in asked.items()}
    bar = study.summary()["seed"]
    rows = {name: row(graph, bar, [results[name, seed] for seed in seeds]) for name, graph in graphs.items()}
    print(
        json.dumps({"run": told.run, "seed": {key: bar[key] for key in ("params", "macs", "accuracy")}, "models": rows}, indent=2)
    )


def payload(study: Study, graph: Graph, seed: int) -> dict[str, Any]:
    """A full training as the finish makes it, evaluated on the test part."""
    training, finish = study.config["training"], study.config["finish"]
    if training["soft_labels"] or training["attention_transfer"]:
        raise SystemExit("this study's students learned from its seed model, which is not done here")
    return {
        "graph": graph.to_json(),
        "data": study.config["data"],
        "recipe": training,
        "seeds": [study.key + seed],
        "fold": 1 + seed if finish["resample"] else 0,
        "evaluate": "test",
    }


def row(graph: Graph, seed: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """Sizes and accuracies of a network; `points` is its mean less the seed model's over the training seeds, in percent."""
    reached = [one.value["accuracy"][0] if isinstance(one, Completed) else None for one in results]
    trained = [one for one in reached if one is not None]
    points = 100 * (fmean(trained) - seed["accuracy"]["mean"]) if trained else None
    return {
        "params": graph.params,
        "macs": macs(graph),
        "accuracy": reached,
        "mean": fmean(trained) if trained else None,
        "points": points,
    }


def _of_zoo(name: str, study: Study) -> Graph:
    seed = study.seed().graph()
    shape, classes = seed.inputs[0].value.shape[1:], seed.values[seed.outputs[0]].channels
    return zoo.build(name.removeprefix("zoo:"), input_shape=shape, num_classes=classes)


if __name__ == "__main__":
    main()
