"""The configuration of a study: one table of keys, frozen, read from TOML, strict.

    config = load_config("experiments/digits.toml", ["search.generation=4", "time_limit=2m"])
    config = Config.from_mapping({"model": "zoo:resnet8", "training": {"epochs": 20}})
    config.training.epochs, config.time_limit        # 20, 300.0 (durations are seconds)
    Config.from_mapping(config.to_mapping()) == config;  tomllib.loads(config.to_toml()) gives the same mapping

Faults (unknown keys with the nearest valid one, wrong types, ranges, contradictions, missing files) come all at once as one
`UserError`.

Relative paths (`data.source = "npz:PATH"`, `model = "FILE.py:factory"`): in a config file they are looked up from the folder of
that file, then from the current folder; in an override from the current folder, then from the config file's. `load_config` makes
them absolute, so that the config stored in a run folder does not depend on where the search was started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from alphanas.config_files import override, put, read_toml, resolve_paths
from alphanas.errors import Fault, UserError
from alphanas.limits import MEASURED, Limit, Limits, Objective
from alphanas.options import (
    Duration,
    Integer,
    Interval,
    ListOf,
    Number,
    OneOf,
    Store,
    Switch,
    Text,
    flatten,
    keys_of,
    option,
    read_section,
    section,
    write_section,
)
from alphanas.sources import source_fault

FRACTION = Number(0.0, 1.0, open_high=True)
SHARE = Number(0.0, 1.0, open_low=True, open_high=True)
COUNT = Integer(0)
POSITIVE = Integer(1)


@dataclass(frozen=True)
class Data:
    """Which pictures, and how they are parted."""

    source: str = option(
        "digits", Text("digits or npz:PATH"), "digits (built in) or npz:PATH with x_train, y_train, x_test, y_test"
    )
    validation: float = option(0.2, SHARE, "share of the training part that selection uses and training does not see")
    test: float = option(0.3, SHARE, "share that only the final report sees, where the source has no test part of its own")
    train_limit: int = option(0, COUNT, "train on this many pictures at most, classes kept in proportion; 0: all")
    seed: int = option(
        0,
        Integer(0, 2**32 - 1),
        "seed of the split; apart from the search's seed, so that the test part stays the same",
    )


@dataclass(frozen=True)
class Search:
    """What to propose, and which numbers are good."""

    strategy: str = option(
        "evolution", Text("the name of a strategy such as evolution or random"), "how parents and changes are chosen"
    )
    generation: int = option(8, Integer(1, 10_000), "proposals made from the same archive, before it is updated")
    objectives: tuple[str, ...] = option(
        ("error", "params", "macs"),
        ListOf(Objective(), shortest=1, distinct=True),
        "numbers to minimise: error, params, macs, peak_bytes, latency (in ms, predicted), or one's own function of the graph",
    )
    max_candidates: int = option(0, COUNT, "stop after this many candidates; 0: the time limit alone stops")
    region_min: int = option(1, POSITIVE, "fewest nodes that one proposal replaces")
    region_max: int = option(8, POSITIVE, "most nodes that one proposal replaces")
    mutation: float = option(0.5, Number(0.0, 1.0), "probability that a property of the region is changed before synthesis")
    properties: tuple[str, ...] = option(
        (),
        ListOf(Text("scale, equivariance, causality, rank, package.module:PROPERTY or file.py:PROPERTY"), distinct=True),
        "properties beyond shape, depth and mixing that changes must keep; one's own by its import path",
    )
    property_mutation: float = option(0.0, Number(0.0, 1.0), "probability that one of these is relaxed in a replacement")
    attempts: int = option(4, POSITIVE, "a generation makes at most this many times its size in proposals, failed ones included")


@dataclass(frozen=True)
class Synthesis:
    """How a replacement that meets the changed properties is built."""

    method: str = option("exact", Text("the name of a synthesis procedure such as exact"), "synthesis procedure")
    branches: float = option(0.2, Number(0.0, 1.0), "share of replacements with branches, also of regions with two ends")
    max_length: int = option(6, Integer(1, 64), "most ops in a replacement")
    params_ratio: tuple[float, float] = option(
        (0.05, 1.0), Interval(Number(0.0, 1000.0)), "parameters of the replacement / of the region"
    )
    macs_ratio: float = option(1.5, Number(0.0, 1000.0), "most multiply-adds of the replacement / of the region")
    steps: int = option(
        20_000,
        POSITIVE,
        "limit of one synthesis in steps of its work, each about 0.1 ms: the same on all machines",
    )
    time_limit: float = option(
        600.0, Duration(), "beyond this time a synthesis gives up all the same; what then hangs on the clock is on record"
    )


@dataclass(frozen=True)
class Scoring:
    """The cheap stages before training."""

    proxy: str = option(
        "naswot",
        Text("the name of a zero-cost score, several joined by + such as naswot+synflow, or none"),
        "zero-cost score, several are ranked together; none: no such stage",
    )
    reject: float = option(0.3, FRACTION, "share of candidates that the zero-cost score turns away")
    batch: int = option(64, Integer(2), "pictures that the zero-cost score sees")
    spared: float = option(
        0.1, FRACTION, "share of those turned away that go on all the same, so that a stage is judged on what it rejects too"
    )
    pairs: int = option(
        24, COUNT, "a stage whose numbers do not rank the next one's on so many candidates is switched off; 0: never"
    )


@dataclass(frozen=True)
class Training:
    """The recipe, the same for the seed and for every candidate."""

    optimizer: str = option("adamw", OneOf(("adamw", "adam", "sgd")), "optimizer")
    learning_rate: float = option(0.003, Number(0.0, 100.0, open_low=True), "peak learning rate")
    schedule: str = option("cosine", OneOf(("cosine", "constant")), "learning rate over time, after the warm-up")
    warmup: float = option(0.1, FRACTION, "share of the steps over which the learning rate rises to its peak")
    momentum: float = option(0.9, FRACTION, "momentum of sgd")
    weight_decay: float = option(0.0005, Number(0.0, 10.0), "decoupled weight decay")
    label_smoothing: float = option(0.0, FRACTION, "label smoothing")
    clip_norm: float = option(1.0, Number(0.0), "largest norm of the gradient; 0: not clipped")
    batch_size: int = option(64, POSITIVE, "pictures in a step")
    short_epochs: int = option(5, POSITIVE, "epochs of the short training that ranks candidates")
    rungs: tuple[int, ...] = option(
        (), ListOf(POSITIVE, distinct=True), "epochs of the short training after which the worse are stopped; []: none are"
    )
    promote: float = option(0.5, SHARE, "share of candidates that a rung lets go on")
    early_stop: float = option(
        0.0,
        FRACTION,
        "a short training is stopped once its learning curve, drawn out as the seed's went, ends by so much above the error of a "
        "candidate that is no worse in all else; 0: none is",
    )
    seed_epochs: int = option(
        0, COUNT, "epochs of the seed's first training, whose weights its children start from; 0: as short_epochs"
    )
    epochs: int = option(30, POSITIVE, "epochs of the full training of seed and finalists")
    augment: str = option(
        "none", OneOf(("none", "shift", "flip", "shift_flip")), "random shifts by up to an eighth of a side, flips left to right"
    )
    soft_labels: float = option(
        0.0, Number(0.0, 1.0), "share of the first trained seed model's softened outputs in the loss; 0: labels alone"
    )
    temperature: float = option(4.0, Number(0.0, 100.0, open_low=True), "temperature that softens these outputs")
    attention_transfer: float = option(
        0.0,
        Number(0.0),
        "weight of looking where the seed model looks, at the ends of its last three stages; 1000 is usual, 0: none",
    )
    precision: str = option(
        "default", OneOf(("default", "highest", "bfloat16")), "of products in training: the device's default, float32, or bfloat16"
    )
    inherit: bool = option(True, Switch(), "short training starts from the parent's weights where op and shapes are unchanged")
    kernels: str = option(
        "measured",
        OneOf(("measured", "fixed")),
        "convolutions: in the formulation that was measured to train fastest (once a shape, kept in the "
        "cache and in the study), or by a fixed rule",
    )
    time_limit: float = option(
        600.0,
        Duration(),
        "wall time of a candidate's short training, which is then judged as far as it came; the seed's, and full ones, go on",
    )
    stall_limit: float = option(
        600.0, Duration(), "a task that does not get on for so long hangs and has failed; a training gets on with every step"
    )


@dataclass(frozen=True)
class Hardware:
    """Where the latency of the seed and the finalists is measured."""

    backends: tuple[str, ...] = option(("tvm",), ListOf(OneOf(("tvm", "xla", "onnxruntime")), distinct=True), "back ends; []: none")
    target: str = option(
        "cpu", OneOf(("cpu", "cuda")), "device of a measurement; what a back end cannot use is recorded with its reason"
    )
    trials: int = option(0, COUNT, "tuning trials of TVM's MetaSchedule; 0: the packed templates alone, their knobs timed")
    threads: int = option(2, Integer(1, 1024), "threads of a measurement")
    batch: int = option(1, POSITIVE, "batch size of a measurement")
    repeats: int = option(10, Integer(2), "repeats that median and spread are taken over")
    report_s: float = option(
        0.0,
        Number(0.0, 3600.0),
        "seconds of seed and finalists with every run timed by itself, for percentiles; 60 is a whole report; 0: repeats alone",
    )
    time_limit: float = option(90.0, Duration(), "wall time of one compilation and measurement, without report_s")
    records: str = option(
        "",
        Text("the path of a file, such as records.sqlite", empty=True),
        "file of what was measured of kernels, shared by studies; empty: records.sqlite in the cache folder ($ALPHANAS_CACHE)",
    )
    tune_limit: float = option(
        30.0, Duration(), "time for the kernels of one candidate that no record knows, where latency is an objective or limited"
    )


@dataclass(frozen=True)
class Finish:
    """What happens to the best at the end."""

    finalists: int = option(3, COUNT, "candidates that are trained in full at the end: the most accurate of so many sizes")
    seeds: int = option(3, POSITIVE, "training seeds of the seed model and of each finalist that is not out of the race before")
    resample: bool = option(
        True,
        Switch(),
        "each training seed parts training and validation pictures anew: more pictures decide, and others than the search saw",
    )
    extra_seeds: int = option(3, COUNT, "further training seeds for finalists too close to tell apart, while time is left")
    tolerance: float = option(0.003, FRACTION, "accuracy that the best may lie below the seed's")
    confidence: float = option(
        0.7, SHARE, "probability with which the best has to be so accurate, in the light of all full trainings; 0.5: by its mean"
    )
    share: float = option(0.5, FRACTION, "share of the time limit that is kept for the finish")


@dataclass(frozen=True)
class Study:
    """Where the study's rows are kept, and how long it waits for what can be mended."""

    store: str = option(
        "",
        Store(),
        "postgresql://USER@HOST:PORT/DATABASE for a study of several machines; empty: study.sqlite in the run folder. A password is"
        " not written down: resume with PGPASSWORD, ~/.pgpass, or the whole address in ALPHANAS_STORE",
        shown=False,
    )
    name: str = option(
        "",
        Text("a name of letters, digits, dots, dashes and underscores", r"[A-Za-z0-9_.-]{1,48}", empty=True),
        "the study's name in the database, which may hold several; empty: the run folder's",
    )
    patience: float = option(
        3600.0, Duration(), "wait so long for a full disk, a read-only folder or a lost database to be mended, then stop"
    )


@dataclass(frozen=True)
class Execution:
    """Where the work runs."""

    engine: str = option("local", OneOf(("local", "ray")), "worker processes on this machine, or on the nodes of a Ray cluster")
    address: str = option(
        "",
        Text("an address such as auto, HOST:PORT or ray://HOST:PORT", empty=True),
        "of the Ray cluster; empty: RAY_ADDRESS, or else one of this machine alone. All nodes must see the run folder and the data",
    )
    gpus: float = option(0.0, Number(0.0, 64.0), "GPUs, or the share of one, that a worker on a Ray cluster takes of its node")
    threads: int = option(1, Integer(1, 1024), "threads of one worker process")
    memory: int = option(
        0, COUNT, "MiB that one worker may hold before its task has failed; 0: an equal share of four fifths of the machine's"
    )


@dataclass(frozen=True)
class Config:
    """The configuration of a study; every key has a default."""

    model: str = option(
        "zoo:resnet8", Text("zoo:NAME, package.module:factory or file.py:factory", r"zoo:.+|[^:]+:[^:]+"), "the seed model"
    )
    weights: str = option(
        "",
        Text("the path of a safetensors file or an Orbax checkpoint", empty=True),
        "the seed model's trained weights, a safetensors file or an Orbax checkpoint; empty: its own",
    )
    seed: int = option(0, Integer(0, 2**32 - 1), "all the search's chance comes from it")
    time_limit: float = option(300.0, Duration(), "wall time of the whole search")
    workers: int = option(2, Integer(1, 1024), "worker processes")
    data: Data = section(Data)
    search: Search = section(Search)
    synthesis: Synthesis = section(Synthesis)
    scoring: Scoring = section(Scoring)
    training: Training = section(Training)
    hardware: Hardware = section(Hardware)
    finish: Finish = section(Finish)
    execution: Execution = section(Execution)
    study: Study = section(Study)
    constraints: tuple[Limit, ...] = option(
        (),
        Limits(),
        'limits by name on error, params, macs, peak_bytes, latency or one\'s own function, such as params = "at most 20k"',
    )

    @staticmethod
    def from_mapping(mapping: Mapping[str, Any]) -> Config:
        """A config from nested tables; `UserError` with all faults. No file is looked at, so that a stored config always opens."""
        faults: list[Fault] = []
        config = read_section(Config, mapping, faults)
        faults += contradictions(config)
        if faults:
            raise UserError(faults, cause="bad_config")
        assert isinstance(config, Config)
        return config

    def to_mapping(self) -> dict[str, Any]:
        """Nested tables of TOML and JSON values; `from_mapping` reads it as an equal config."""
        return write_section(self)

    def to_toml(self) -> str:
        """TOML text of every key; reading it gives an equal config."""
        return tomli_w.dumps(self.to_mapping())

    def difference(self, other: Config) -> tuple[str, ...]:
        """The dotted keys in which two configs differ."""
        mine, theirs = flatten(self.to_mapping()), flatten(other.to_mapping())
        return tuple(key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key))

    @property
    def judged_by(self) -> tuple[str, ...]:
        """The names of all numbers that candidates are compared by or limited in."""
        return tuple(dict.fromkeys((*self.search.objectives, *(limit.name for limit in self.constraints))))

    @property
    def own_functions(self) -> tuple[str, ...]:
        """Import paths of one's own functions among these."""
        return tuple(name for name in self.judged_by if name not in MEASURED)

    def replace(self, **changes: Any) -> Config:
        """A copy with top-level fields replaced, checked again."""
        changed = replace(self, **changes)
        # The mapping is without the password of the store.
        return replace(Config.from_mapping(changed.to_mapping()), study=changed.study)


# What may change between a search and its resume: when it stops, on how many processes it runs, and where its data lies (which the
# study's fingerprint of the data then checks); never what it proposes.
FREE_TO_CHANGE = frozenset(
    {
        "time_limit",
        "workers",
        "search.max_candidates",
        "execution.threads",
        "execution.memory",
        "data.source",
        "hardware.records",
        "study.patience",
        "training.stall_limit",
    }
    | {"execution.engine", "execution.address", "execution.gpus"}
)


def resumed(stored: Config, edited: Config) -> Config:
    """The config to go on with: the edited one, if it differs from the study's only in what may change; otherwise `UserError`."""
    before, now = flatten(stored.to_mapping()), flatten(edited.to_mapping())
    faults = [
        Fault(
            key,
            f"saw {now.get(key)!r}",
            f"{before.get(key)!r}, as the study was started",
            "undo the change, or search into another folder",
        )
        for key in stored.difference(edited)
        if key not in FREE_TO_CHANGE
    ]
    if faults:
        raise UserError(faults, cause="other_study")
    return edited


def own_code(config: Config) -> tuple[str, ...]:
    """What a config names that is code from outside of this package: only a search or its resume runs it, and names it first."""
    named = (config.model, *config.search.properties, *config.own_functions)
    return tuple(name for name in named if ":" in name and not name.startswith("zoo:"))


def contradictions(config: Config) -> list[Fault]:
    """Faults that two keys have together."""
    training, search, finish = config.training, config.search, config.finish
    rules = (
        (
            search.region_min > search.region_max,
            "search.region_min",
            search.region_min,
            f"at most search.region_max = {search.region_max}",
        ),
        (
            training.short_epochs > training.epochs,
            "training.short_epochs",
            training.short_epochs,
            f"at most training.epochs = {training.epochs}",
        ),
        (
            list(training.rungs) != sorted(training.rungs) or max(training.rungs, default=0) >= training.short_epochs,
            "training.rungs",
            list(training.rungs),
            f"epochs in rising order, below training.short_epochs = {training.short_epochs}",
        ),
        (
            training.early_stop > 0 and bool(training.rungs),
            "training.early_stop",
            training.early_stop,
            "0 with training.rungs, each of which is a training with a curve of its own",
        ),
        (
            0 < config.data.train_limit < training.batch_size,
            "data.train_limit",
            config.data.train_limit,
            f"0 (all) or at least training.batch_size = {training.batch_size}",
        ),
        (
            0 < search.max_candidates < finish.finalists,
            "search.max_candidates",
            search.max_candidates,
            f"0 (no limit) or at least finish.finalists = {finish.finalists}",
        ),
    )
    faults = [Fault(key, f"saw {saw}", wanted) for broken, key, saw, wanted in rules if broken]
    source = source_fault(config.data.source)
    return [*faults, source] if source else faults


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """The config in a TOML file, with `key.sub=value` overrides; relative paths made absolute, missing files named."""
    path = Path(path)
    mapping = read_toml(path)
    faults: list[Fault] = []
    changed = {key: value for text in overrides for key, value in [override(text, faults)] if key}
    for key, value in changed.items():
        put(mapping, key, value, faults)
    faults += resolve_paths(mapping, changed, path.resolve().parent)
    try:
        config = Config.from_mapping(mapping)
    except UserError as error:
        faults += error.faults
    if faults:
        raise UserError(tuple(dict.fromkeys(faults)), cause="bad_config")
    return config


def keys() -> dict[str, tuple[str, str, Any]]:
    """Every key → (what it takes, what it means, its default), for `--help` and documents."""
    return {key: (type(kind).__name__, help, default) for key, (kind, help, default) in keys_of(Config).items()}
