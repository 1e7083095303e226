"""The command line: one file per verb, each with `HELP`, `add_arguments(parser)` and `run(arguments) -> exit code`.

Exit codes: 0 done, 2 bad usage or config, 1 failed. Results go to stdout (as JSON with `--json`), everything else to stderr. A verb
imports what it needs when it runs, so that `--help` loads neither jax nor TVM nor flax nor z3.
"""

from alphanas.cli.main import main

__all__ = ["main"]
