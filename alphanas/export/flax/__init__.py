"""Flax NNX source that a person would commit: it needs jax and flax, and nothing of ours."""
