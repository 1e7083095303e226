"""`dashboard DIR`: the report as a live page, also while the search is running."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

from alphanas.cli.common import add_json
from alphanas.errors import UserError

HELP = """show the report as a live page

Serves the report of a run folder on this machine, made anew as the search goes on, with a page for every candidate.
Reads the study and never changes it. Stop it with Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `dashboard`."""
    parser.add_argument("folder", metavar="DIR", help="run folder of a search")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others can see the study on any but the default")
    parser.add_argument("--port", type=_port, default=8321, metavar="N", help="port to listen on; 0: any free one (default: 8321)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the address and serves until it is interrupted."""
    from alphanas.report.dashboard import server

    with server(Path(arguments.folder), host=arguments.host, port=arguments.port) as serving:
        address = f"http://{arguments.host}:{serving.server_port}/"
        print(json.dumps({"address": address}) if arguments.json else address, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            serving.serve_forever()
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise UserError(f"--port {text}", saw="no port", wanted="a whole number from 0 to 65535", cause="bad_usage")
    return int(text)
