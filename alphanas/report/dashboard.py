"""The report as live pages on this machine: read-only, made anew from the store whenever something was added to it.

`/` is the report, `/candidate/ID` a page for one candidate, `/summary.json` the figures, `/version` a number that grows with the
store. The page asks for the version every two seconds and puts itself anew when it has changed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

from alphanas.errors import UserError
from alphanas.study import Study, open_study

SCRIPT = """
let seen = null;
async function look() {
  try {
    const now = await (await fetch("/version")).text();
    if (seen !== null && now !== seen) {
      const page = new DOMParser().parseFromString(await (await fetch(location.pathname)).text(), "text/html");
      const open = new Set([...document.querySelectorAll("details[open] > summary")].map(each => each.textContent));
      document.querySelector("main").replaceWith(page.querySelector("main"));
      for (const each of document.querySelectorAll("details > summary")) each.parentElement.open = open.has(each.textContent);
      document.title = page.title;
    }
    seen = now;
    document.body.classList.remove("stale");
  } catch { document.body.classList.add("stale"); }
  setTimeout(look, 2000);
}
document.addEventListener("click", event => {
  const dot = event.target.closest ? event.target.closest("[data-candidate]") : null;
  if (dot) location.href = "/candidate/" + dot.dataset.candidate;
});
look();
"""
"""Reloads what has changed, keeps open what the user opened, and makes dots lead to their candidates."""


class Pages:
    """What the paths show; one question to the store at a time, and each page made once for each state of the store."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._lock = threading.Lock()
        self._made: dict[str, tuple[str, str]] = {}

    def answer(self, path: str) -> tuple[HTTPStatus, str, str]:
        """(status, content type, text) for a path."""
        with self._lock:
            version = self._study.version()
            if path == "/version":
                return HTTPStatus.OK, "text/plain", version
            make = self._maker(path)
            if make is None:
                return HTTPStatus.NOT_FOUND, "text/plain", f"nothing at {path}; there are /, /candidate/ID, /summary.json\n"
            kept = self._made.get(path)
            if kept is None or kept[0] != version:
                try:
                    kept = version, make()
                except UserError as error:
                    return HTTPStatus.NOT_FOUND, "text/plain", f"{error}\n"
                self._made[path] = kept
            kind = "application/json" if path.endswith(".json") else "text/html"
            return HTTPStatus.OK, kind, kept[1]

    def _maker(self, path: str) -> Callable[[], str] | None:
        from alphanas.report.html import report_html
        from alphanas.report.page import candidate_html

        study = self._study
        if path == "/":
            return lambda: report_html(study, script=SCRIPT)
        if path == "/summary.json":
            return lambda: json.dumps(study.summary(), indent=2) + "\n"
        head, _, number = path.rpartition("/")
        if head == "/candidate" and number.isdecimal() and len(number) < 10:
            return lambda: candidate_html(study, int(number), script=SCRIPT)
        return None


def server(folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """A server of a run folder's pages, bound but not yet serving; UserError if there is no study or the port is taken.

    Answers GET and HEAD alone, to requests that name this machine as their host: no other site's script may read a study.
    """
    pages = Pages(open_study(folder))
    named = {host, "localhost", "127.0.0.1", "[::1]"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Host", host)
            if host in ("127.0.0.1", "localhost") and asked.rsplit(":", 1)[0] not in named:
                self.send_error(HTTPStatus.FORBIDDEN, "another host")
                return
            status, kind, text = pages.answer(urlparse(self.path).path)
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing is logged: a page asks every two seconds."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise UserError(f"port {port} of {host}", saw=error.strerror or str(error), remedy="give another --port") from None
