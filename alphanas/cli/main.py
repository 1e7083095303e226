"""From a command line to an exit code; every error is one clear line unless `--debug` asks for the traceback."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from alphanas.cli import dashboard, doctor, export, inspect, latency, replay, report, resume, search, synth, tune
from alphanas.errors import BAD_USAGE, FAILED, UserError, nearest

VERBS = {
    "search": search,
    "resume": resume,
    "replay": replay,
    "report": report,
    "dashboard": dashboard,
    "inspect": inspect,
    "synth": synth,
    "latency": latency,
    "tune": tune,
    "export": export,
    "doctor": doctor,
}

DESCRIPTION = """Smaller, faster JAX models that are as accurate: architecture search in the space of program properties.

exit codes: 0 done, 2 bad usage or config, 1 failed. Results go to stdout, all else to stderr."""


class Parser(argparse.ArgumentParser):
    """A parser whose faults are user errors like all others."""

    def error(self, message: str) -> NoReturn:
        thing = self.prog.removeprefix("alphanas ")
        raise UserError(thing, saw=message, remedy=f"see python -m {self.prog} --help", cause="bad_usage")


def parser() -> Parser:
    """The parser of all verbs."""
    top = Parser(prog="alphanas", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="store_true", help="print the version and stop")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, module in VERBS.items():
        verb = verbs.add_parser(
            name, help=module.HELP.splitlines()[0], description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(verb)
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")
        verb.set_defaults(run=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        return _run(words)
    except UserError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        return _fail("stopped", FAILED)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # the outermost wall: a bug is one line here too, and --debug shows it whole
        if debug:
            raise
        text = " ".join(str(error).split()) or "no message"
        return _fail(f"unexpected {type(error).__name__}: {text[:500]}; run it again with --debug for the traceback", FAILED)


def _run(words: Sequence[str]) -> int:
    verb = next((word for word in words if not word.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        raise UserError(f"verb {verb!r}", saw="no such verb", remedy=nearest(verb, VERBS), cause="bad_usage")
    top = parser()
    try:
        arguments, unknown = top.parse_known_args(words)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    if unknown:
        asked = " ".join(["python -m alphanas", *([verb] if verb else []), "--help"])
        raise UserError(" ".join([verb or "", *unknown]), saw="no such argument", remedy=f"see {asked}", cause="bad_usage")
    if arguments.version:
        from importlib.metadata import version

        print(version("alphanas"))
        return 0
    if arguments.verb is None:
        top.print_help(sys.stderr)
        return BAD_USAGE
    code: int = arguments.run(arguments)
    return code


def _fail(text: str, code: int) -> int:
    print(f"alphanas: {text}", file=sys.stderr)
    return code
