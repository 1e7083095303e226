"""Every format on every graph of the table: written whole and checked, or refused with the name of the node that it cannot hold."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from alphanas.errors import UserError
from alphanas.export import FORMATS, Options, export
from alphanas.export.check import TOLERANCE
from synth import OPS, chain
from synth.op import Op, Value
from tests.alphanas.export.graphs import GRAPHS
from tests.harnesses import OP_CASES

QUICK = {("every_op", "onnx"), ("every_op", "flax"), ("branches", "graph"), ("several", "onnx"), ("opaque", "onnx")}
QUICK |= {(graph, format) for graph in ("tied", "heir") for format in ("graph", "flax", "onnx")}


@pytest.fixture(autouse=True)
def installed(request):
    """Skips what needs an extra that is not installed."""
    if "format" in request.fixturenames and request.getfixturevalue("format") == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")


def cases():
    for graph in GRAPHS:
        for format in FORMATS:
            slow = (graph, format) not in QUICK
            yield pytest.param(graph, format, marks=pytest.mark.slow if slow else (), id=f"{graph}-{format}")


def test_the_table_holds_every_op():
    assert {type(op) for op, _ in OP_CASES} == set(OPS.values())


@pytest.mark.parametrize(("name", "format"), cases())
def test_a_graph_is_written_and_checked(name, format, tmp_path):
    graph, variables = GRAPHS[name]()
    exported = export(graph, variables, format, tmp_path / "out", options=Options(tuning_s=0.0))
    record = json.loads((tmp_path / "out" / "export.json").read_text())[format]
    assert exported.max_error <= record["tolerance"] == TOLERANCE
    assert record["graph"] == graph.hash and record["versions"]["jax"] == jax.__version__ and record["checked_by"]
    assert [tuple(item[1]) for item in record["inputs"]] == [item.shape for item in graph.inputs]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*exported.files, "export.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looped(Op):
    """An op that no format has a row for, of a primitive that none but JAX's own knows."""

    def apply(self, weights, *inputs):
        return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x + 1, inputs[0])


@pytest.mark.parametrize("format", ["flax", "onnx"])
def test_what_a_format_cannot_hold_is_refused_by_name_and_leaves_nothing(format, tmp_path):
    graph = chain(Value((None, 4)), [Looped(), OPS["dense"](features=2), Looped()])
    with pytest.raises(UserError) as caught:
        export(graph, graph.init(jax.random.key(0)), format, tmp_path / "out")
    assert [fault.thing for fault in caught.value.faults] == ["node looped0", "node looped2"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", [name for name, row in FORMATS.items() if row.file])
def test_a_format_of_one_file_takes_a_name_for_it(format, tmp_path):
    graph = chain(Value((None, 4)), [OPS["dense"](features=2)])
    ending = FORMATS[format].file.rpartition(".")[2]
    exported = export(graph, graph.init(jax.random.key(0)), format, tmp_path / f"mine.{ending}")
    assert exported.files == (f"mine.{ending}",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.export.json", f"mine.{ending}"]
    export(graph, graph.init(jax.random.key(0)), format, tmp_path / f"another.{ending}")
    export(graph, graph.init(jax.random.key(1)), format, tmp_path / f"mine.{ending}")


def small(features: int = 2):
    graph = chain(Value((None, 4)), [OPS["dense"](features=features)])
    return graph, graph.init(jax.random.key(features))


def test_a_place_that_cannot_take_it_is_one_error_before_any_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="a file is there"):
        export(*small(), "graph", tmp_path / "file")
    with pytest.raises(UserError, match="is a file"):
        export(*small(), "graph", tmp_path / "file" / "out")
    (tmp_path / "model.py").write_text("mine")
    with pytest.raises(UserError, match=r"model\.py.*no export wrote"):
        export(*small(), "flax", tmp_path)
    assert (tmp_path / "model.py").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model.py"]


def test_an_export_replaces_an_export_and_the_record_stays_true(tmp_path):
    export(*small(), "graph", tmp_path)
    export(*small(), "stablehlo", tmp_path)
    assert set(json.loads((tmp_path / "export.json").read_text())) == {"graph", "stablehlo"}
    export(*small(3), "graph", tmp_path)
    record = json.loads((tmp_path / "export.json").read_text())
    assert set(record) == {"graph", "stablehlo"}
    assert record["graph"]["graph"] == small(3)[0].hash
    export(*small(2), "flax", tmp_path)
    assert "graph" not in json.loads((tmp_path / "export.json").read_text()), "its weights are another model's now"


def test_a_wrong_export_is_never_put_in_place(tmp_path, monkeypatch):
    graph, variables = small()
    monkeypatch.setattr("alphanas.export.graph.open_graph", lambda folder: (graph, jax.tree.map(lambda a: a + 1, variables)))
    with pytest.raises(UserError, match="differ from the graph's"):
        export(graph, variables, "graph", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_weights_of_another_graph_are_refused_before_any_work(tmp_path):
    with pytest.raises(UserError, match="params/dense0/kernel"):
        export(small(2)[0], small(3)[1], "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_error_of_several_outputs_is_the_largest_and_never_hides_a_nan():
    from alphanas.export.check import largest_error

    zeros, ones = np.zeros(3), np.ones(3)
    assert largest_error((zeros, ones), (zeros, ones * 3)) == 2
    assert np.isnan(largest_error((zeros, ones), (zeros, ones * np.nan)))
    assert np.isnan(largest_error((zeros, ones), (zeros * np.nan, ones)))
    assert largest_error(zeros, np.zeros(4)) == float("inf")
