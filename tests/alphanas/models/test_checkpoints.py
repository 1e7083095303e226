"""Weights in and out: by path, both ways, with every leaf that does not fit named at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import alphanas
from alphanas import data
from alphanas.config import Config, load_config
from alphanas.driver.start import open_model
from alphanas.errors import UserError
from alphanas.export import export
from alphanas.models import checkpoints, weights, zoo
from alphanas.models.resolve import resolve_with_report
from synth import OPS, chain
from synth.op import Value

SHAPE = (4, 4, 3)


class Net(nnx.Module):
    """A list of layers, statistics, attention and a random stream: everything that has a path of its own."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 4, (1, 1), rngs=rngs)])
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        x = self.norm(x).reshape(x.shape[0], -1, 4)
        return self.head(self.dropout(self.attention(x)).mean(1))


class LinenNet(linen.Module):
    """The same of Linen's kind."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.relu(linen.Conv(4, (3, 3))(x))
        x = linen.BatchNorm(use_running_average=not train)(x)
        return linen.Dense(2)(x.mean((1, 2)))


def net(seed=0):
    model = Net(nnx.Rngs(seed))
    model.eval()
    return model


@pytest.fixture(scope="module")
def lifted():
    model = net()
    model.norm.mean.set_value(jnp.arange(4.0))
    return model, *alphanas.lift(model, jax.ShapeDtypeStruct((1, *SHAPE), "float32"))


@pytest.fixture(scope="module")
def linen_lifted():
    variables = LinenNet().init(jax.random.key(1), jnp.zeros((1, *SHAPE)))
    return variables, *alphanas.lift((LinenNet(), variables), jax.ShapeDtypeStruct((1, *SHAPE), "float32"))


def same(one, other):
    assert weights.flatten(one).keys() == weights.flatten(other).keys()
    for key, array in weights.flatten(one).items():
        np.testing.assert_array_equal(array, weights.flatten(other)[key], err_msg=key)


def test_an_nnx_state_and_ours_are_each_others_inverse(lifted):
    model, graph, variables = lifted
    same(variables, checkpoints.from_nnx(graph, model))
    other = net(seed=5)
    nnx.update(other, checkpoints.to_nnx(graph, variables, other))
    same(variables, checkpoints.from_nnx(graph, nnx.state(other)))


def test_linen_variables_and_ours_are_each_others_inverse(linen_lifted):
    theirs, graph, variables = linen_lifted
    same(variables, checkpoints.from_linen(graph, theirs))
    shapes = jax.eval_shape(lambda: theirs)
    assert jax.tree.all(jax.tree.map(np.array_equal, checkpoints.to_linen(graph, variables, shapes), theirs))


@pytest.mark.parametrize("writer", ["StandardCheckpointer", "PyTreeCheckpointer"])
def test_orbax_checkpoints_of_a_state_open(writer, lifted, tmp_path):
    import orbax.checkpoint as ocp

    model, graph, variables = lifted
    with getattr(ocp, writer)() as checkpointer:
        checkpointer.save(tmp_path / "saved", nnx.state(model))
    same(variables, checkpoints.load(tmp_path / "saved", graph))
    other = checkpoints.into(net(seed=7), checkpoints.read(tmp_path / "saved"), source="saved")
    same(variables, checkpoints.from_nnx(graph, other))


def test_an_orbax_manager_is_opened_at_its_newest_step_without_the_optimizer(linen_lifted, tmp_path):
    import orbax.checkpoint as ocp

    theirs, graph, variables = linen_lifted
    old = jax.tree.map(jnp.zeros_like, theirs)
    with ocp.PyTreeCheckpointer() as checkpointer:
        for step, tree in ((9, old), (10, theirs)):
            state = {**tree, "opt_state": {"mu": jnp.ones(3)}, "step": jnp.array(step)}
            checkpointer.save(tmp_path / str(step) / "default", state)
    same(variables, checkpoints.load(tmp_path, graph))


def test_a_wrapped_tree_is_read_as_what_it_wraps(linen_lifted):
    theirs, graph, variables = linen_lifted
    same(variables, checkpoints.from_linen(graph, {"model": theirs}))
    wrapping = chain(Value((None, 3)), [OPS["dense"](features=2)])
    own = wrapping.init(jax.random.key(0))
    kernel, bias = own["params"]["dense0"].values()
    same(
        own, checkpoints.of_graph(wrapping, {("model", "dense0", "kernel"): kernel, ("model", "dense0", "bias"): bias}, source="it")
    )


def test_everything_that_does_not_fit_is_listed_at_once(lifted):
    model, graph, _ = lifted
    leaves = {
        tuple(map(str, path)): variable.get_value()
        for path, variable in nnx.to_flat_state(nnx.state(model))
        if not isinstance(variable, nnx.RngState)
    }
    del leaves["head", "bias"]
    leaves["tail", "kernel"] = np.zeros(3)
    leaves["layers", "1", "kernel"] = np.zeros((3, 3, 4, 4))
    leaves["norm", "scale"] = np.zeros(4, np.int32)
    for check in (
        lambda: checkpoints.of_graph(graph, leaves, source="c"),
        lambda: checkpoints.into(net(), leaves, source="c"),
    ):
        with pytest.raises(UserError) as caught:
            check()
        text = str(caught.value)
        assert "4 faults" in text and "head.bias: missing; wanted shape (2,)" in text
        assert "tail.kernel: no weight of this model" in text
        assert "shape (3, 3, 4, 4); wanted shape (1, 1, 4, 4)" in text and "type int32; wanted type float32" in text


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "torn file", "torn checkpoint"])
def test_what_is_no_checkpoint_is_one_error(kind, tmp_path, lifted):
    path = tmp_path / "weights"
    if kind == "empty folder":
        path.mkdir()
    if kind == "torn file":
        path.write_bytes(b"x" * 100)
    if kind == "torn checkpoint":
        path.mkdir()
        (path / "_METADATA").write_text("{")
    with pytest.raises(UserError, match=f"weights {path}"):
        checkpoints.load(path, lifted[1])


def test_a_model_of_the_zoo_and_a_factory_take_a_checkpoint(tmp_path, lifted):
    graph = zoo.build("mlp", input_shape=(4, 4, 1), num_classes=3)
    variables = graph.init(jax.random.key(4))
    export(graph, variables, "graph", tmp_path / "exported")
    again = resolve_with_report("zoo:mlp", (4, 4, 1), num_classes=3, weights=tmp_path / "exported")
    same(variables, again.variables)
    (tmp_path / "theirs.py").write_text(
        "import jax.numpy as jnp\n\ndef build():\n"
        "    return lambda params, x: jnp.cumsum(x @ params['layer']['kernel'], 1), {'layer': {'kernel': jnp.zeros((4, 2))}}\n"
    )
    kernel = np.arange(8, dtype=np.float32).reshape(4, 2)
    weights.save({"params": {"layer": {"kernel": kernel}}, "state": {}}, tmp_path / "w.safetensors")
    found = resolve_with_report(f"{tmp_path}/theirs.py:build", (1, 4), weights=tmp_path / "w.safetensors")
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(found.graph.apply(found.variables, x), np.cumsum(x @ kernel, 1))


def test_a_search_starts_from_the_weights_of_its_config(tmp_path):
    pictures = data.load(Config().data)
    graph = zoo.build("mlp", input_shape=pictures.input_shape, num_classes=pictures.num_classes)
    variables = graph.init(jax.random.key(9))
    weights.save(variables, tmp_path / "w.safetensors")
    (tmp_path / "c.toml").write_text('model = "zoo:mlp"\nweights = "w.safetensors"\n')
    config = load_config(tmp_path / "c.toml")
    assert config.weights == str(tmp_path / "w.safetensors")
    same(variables, open_model(config, pictures).variables)
    with pytest.raises(UserError, match=r"weights: no file 'v\.safetensors'"):
        load_config(tmp_path / "c.toml", ["weights=v.safetensors"])
