"""The StableHLO export: a file that JAX alone reads, at any batch size."""

import jax
import numpy as np
from jax import export as jax_export

from alphanas.export import export
from alphanas.models import zoo


def test_the_file_computes_what_the_graph_does_at_any_batch(tmp_path):
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=4)
    variables = graph.init(jax.random.key(1))
    assert export(graph, variables, "stablehlo", tmp_path).max_error < 1e-5
    read = jax_export.deserialize(bytearray((tmp_path / "model.stablehlo").read_bytes()))
    for batch in (1, 5):
        x = np.random.default_rng(batch).standard_normal((batch, 8, 8, 1)).astype(np.float32)
        np.testing.assert_allclose(read.call(x), jax.jit(graph.apply)(variables, x), atol=1e-5)
