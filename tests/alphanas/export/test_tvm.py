"""The tvm export: a library and a script that runs it with tvm and numpy alone; cross-compiled where a target is given."""

import json
import subprocess
import sys
import tarfile

import jax
import numpy as np
import pytest

import alphanas
from alphanas.errors import UserError
from alphanas.export import Options, export
from synth import OPS, chain
from synth.op import Value
from tests.alphanas.export.graphs import branches, with_weights

STRANGER = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"alphanas", "synth", "properties", "jax", "flax", "safetensors"}:
            raise ImportError(f"{name} is not at hand")
sys.meta_path.insert(0, Wall())
sys.path.insert(0, ".")
import numpy as np
from load import load
np.save("outputs.npy", load()(np.load("inputs.npy")))
"""
SMALL = chain(Value((None, 6)), [OPS["dense"](features=8), OPS["relu"]()])


@pytest.mark.slow
def test_the_script_needs_tvm_and_numpy_alone(tmp_path):
    graph, variables = branches()
    exported = export(graph, variables, "tvm", tmp_path / "out", options=Options(batch=2, tuning_s=0.0))
    assert exported.details["library_was_run"] and exported.batches == (2,)
    x = np.random.default_rng(5).standard_normal((2, 8, 8, 3)).astype(np.float32)
    np.save(tmp_path / "out" / "inputs.npy", x)
    subprocess.run([sys.executable, "-I", "-c", STRANGER], cwd=tmp_path / "out", check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "out" / "outputs.npy"), jax.jit(graph.apply)(variables, x), atol=1e-5)


@pytest.mark.slow
def test_schedules_on_record_are_taken_and_what_is_timed_is_recorded(tmp_path):
    graph, variables = with_weights(chain(Value((None, 8, 8, 16)), [OPS["conv"](features=32), OPS["relu"]()]))
    options = Options(records=tmp_path / "records.sqlite")
    first = export(graph, variables, "tvm", tmp_path / "first", options=options)
    second = export(graph, variables, "tvm", tmp_path / "second", options=options)
    assert first.details["tuned"] and first.details["timed_now"] > 1
    assert second.details["tuned"] and second.details["timed_now"] == 0
    x = np.random.default_rng(5).standard_normal((1, 8, 8, 16)).astype(np.float32)
    np.save(tmp_path / "second" / "inputs.npy", x)
    subprocess.run([sys.executable, "-I", "-c", STRANGER], cwd=tmp_path / "second", check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "second" / "outputs.npy"), jax.jit(graph.apply)(variables, x), atol=1e-5)


@pytest.mark.slow
def test_a_cross_compiled_library_is_of_the_targets_machine(tmp_path):
    target = "aarch64-linux-gnu/cortex-a72"
    exported = export(*with_weights(SMALL), "tvm", tmp_path / "out", options=Options(target=target))
    assert (exported.details["cpu"], exported.details["triple"]) == ("cortex-a72", "aarch64-linux-gnu")
    assert not json.loads((tmp_path / "out" / "export.json").read_text())["tvm"]["details"]["library_was_run"]
    path = tmp_path / "out" / exported.files[0]
    if path.suffix == ".tar":
        with tarfile.open(path) as archive:
            objects = [archive.extractfile(member).read() for member in archive.getmembers() if member.name.endswith(".o")]
    else:
        objects = [path.read_bytes()]
    aarch64 = 183
    assert objects and {int.from_bytes(data[18:20], "little") for data in objects} == {aarch64}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("skylakee", "did you mean 'skylake'"),
        ("aarch64-linux-gnu/cortex-a7s", "did you mean 'cortex-a7"),
        ("aarch46-linux-gnu/cortex-a72", "did you mean 'aarch64'"),
        ("aarch64-linux-gnu", "cortex-a72"),
    ],
)
def test_an_unknown_target_is_refused_with_what_is_known(target, says, tmp_path):
    with pytest.raises(UserError, match=says) as caught:
        export(*with_weights(SMALL), "tvm", tmp_path / "out", options=Options(target=target))
    assert caught.value.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_step_without_a_kernel_is_refused_with_its_node(tmp_path):
    kernel = {"kernel": np.eye(6, dtype=np.float32)}
    model = (lambda params, x: jax.lax.lgamma(x @ params["kernel"]), kernel)
    graph = alphanas.lift(model, jax.ShapeDtypeStruct((1, 6), "float32"))
    with pytest.raises(UserError, match=r"node .*: cannot lower lgamma"):
        export(*graph, "tvm", tmp_path / "out", options=Options(tuning_s=0.0))
    assert not list(tmp_path.iterdir())
