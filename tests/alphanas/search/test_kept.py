"""A search that keeps one's own property: the README's, from a configuration by its file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

import properties
from alphanas.config import Config, load_config
from alphanas.errors import UserError
from alphanas.search.archive import Archive, Member
from alphanas.search.change import changed
from alphanas.search.proposal import New
from alphanas.search.strategies import build, options_of
from synth import Builder, Graph
from synth.ops import BatchNorm, Conv, Dense, GlobalAvgPool, Relu

PAGE = Path(properties.__file__).with_name("README.md").read_text()
MODULE = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if block.startswith("# transcendental.py"))
CONFIG = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[-1]
COSTLY = re.compile(r"= (exp|exp2|expm1|log|log1p|logistic|tanh|erf|erfc|pow)\b")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "transcendental.py").write_text(MODULE)
    (tmp_path / "config.toml").write_text(CONFIG)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("transcendental", None)


def net() -> Graph:
    build = Builder((8, 8, 3))
    x = build(Relu(), build(BatchNorm(), build(Conv(features=8), build.input, name="stem"), name="norm"), name="act")
    x = build(Relu(), build(Conv(features=8), x, name="inner"), name="act2")
    return build.graph(build(Dense(features=10), build(GlobalAvgPool(), x, name="pool"), name="head"))


def program(graph: Graph) -> str:
    """JAX's own text of what the graph computes."""
    variables = graph.init(jax.random.key(0))
    return str(jax.make_jaxpr(graph.apply)(variables, *(item.value.aval() for item in graph.inputs)))


def children(config: Config, count: int) -> list[Graph]:
    """What replacing regions makes of the net, by the search that a configuration describes."""
    graph, options = net(), options_of(config)
    archive = Archive(("error", "params"), (Member(0, graph, (0.1, float(graph.params))),))
    made = (changed(archive, np.random.default_rng(seed), options, archive.seed, {"region": 1.0}).answer for seed in range(count))
    return [answer.graph for answer in made if isinstance(answer, New)]


def test_every_replacement_keeps_one_s_own_property(folder: Path) -> None:
    small = ["synthesis.time_limit=1m", "synthesis.max_length=3", "search.region_max=3", "search.mutation=0.9"]
    config = load_config(folder / "config.toml", small)
    assert config.search.properties[0] == f"{folder / 'transcendental.py'}:TRANSCENDENTAL"
    assert not COSTLY.search(program(net()))
    kept = children(config, 24)
    assert len(kept) >= 10
    assert not [graph for graph in kept if COSTLY.search(program(graph))]
    free = children(load_config(folder / "config.toml", [*small, "search.properties=[]"]), 24)
    assert [graph for graph in free if COSTLY.search(program(graph))], "without it some replacement has such a function"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("skale", "no property is called 'skale': did you mean 'scale'?"),
        ("colour", "no property is called 'colour': built in are depth, mixing, rank, causality, scale, equivariance"),
        ("nowhere.at:ALL", "cannot import nowhere.at: No module named 'nowhere'"),
        ("json:NOTHING", "json has no 'NOTHING'; it has no property"),
        ("json:loads", "loads is of the type function; wanted a properties.RelationalProperty"),
        ("properties:Shape", "Shape is the class Shape; wanted"),
        ("depth", "'depth' demands nothing of a replacement"),
    ],
)
def test_what_is_no_property_to_keep_is_an_error_that_names_the_key(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        build(Config.from_mapping({"search": {"properties": [name]}}))
    assert str(caught.value).startswith("search.properties: ") and said in str(caught.value)


def test_files_of_properties_are_looked_for_and_what_they_raise_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match=r"search.properties: no file 'missing.py'"):
        load_config(folder / "config.toml", ['search.properties=["missing.py:X"]'])
    (folder / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=r"search.properties: .*cannot run .*broken.py: ZeroDivisionError"):
        build(load_config(folder / "config.toml", ['search.properties=["broken.py:X"]']))
    with pytest.raises(UserError, match=r"transcendental.py has no 'OTHER'; its properties are TRANSCENDENTAL"):
        build(load_config(folder / "config.toml", ['search.properties=["transcendental.py:OTHER"]']))


@pytest.mark.slow
def test_a_whole_search_keeps_it(folder: Path) -> None:
    from alphanas.driver import search

    sizes = ["model=zoo:mlp", "search.generation=3", "search.max_candidates=5", "training.short_epochs=1", "training.epochs=1"]
    ends = ["finish.finalists=1", "finish.seeds=1", "hardware.backends=[]", "time_limit=20m", "synthesis.time_limit=5m"]
    study = search(load_config(folder / "config.toml", [*sizes, *ends]), out=folder / "run")
    graphs = [one.graph() for one in study.candidates() if one.graph_hash is not None]
    assert len(graphs) >= 5
    assert not [graph for graph in graphs if COSTLY.search(program(graph))]
