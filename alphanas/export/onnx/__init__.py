"""ONNX: one emitter for each op, one for each JAX primitive, and as few transpositions as the layouts allow."""
