"""`synth MODEL --region FIRST..LAST`: other programs for a piece of a model."""

from __future__ import annotations

import argparse

HELP = """synthesize other programs for a region of a model"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `synth`."""


def run(arguments: argparse.Namespace) -> int:
    """Synthesizes, and prints the programs."""
    raise NotImplementedError
