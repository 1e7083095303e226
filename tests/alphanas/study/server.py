"""A PostgreSQL server of one's own in a temporary folder: started, stopped, killed and asked by tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

PLACES = (
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    *map(Path, os.environ.get("PATH", "").split(os.pathsep)),
)
PASSWORD = "se-cret_word"


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs; it refuses to run as root, so that root needs another user for it."""
    found = next((place for place in PLACES if (place / "initdb").is_file() and (place / "pg_ctl").is_file()), None)
    as_other = os.geteuid() != 0 or (
        shutil.which("runuser") is not None and subprocess.run(["id", "postgres"], capture_output=True).returncode == 0
    )
    return found if as_other else None


needs_postgres = pytest.mark.skipif(binaries() is None, reason="needs the programs of a PostgreSQL server (initdb, pg_ctl)")


class Server:
    """A server on a free port of this machine; `url` has its password."""

    def __init__(self) -> None:
        found = binaries()
        assert found is not None
        self._binaries = found
        self.root = Path(tempfile.mkdtemp(prefix="alphanas-pg-"))
        secret = self.root / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self.root, secret):
                shutil.chown(path, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run(
            "initdb",
            "-D",
            f"{self.root}/data",
            "-U",
            "user",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
            "--no-sync",
            "-E",
            "UTF8",
        )
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://user:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        settings = ("listen_addresses=127.0.0.1", f"unix_socket_directories={self.root}", "shared_buffers=16MB")
        flags = " ".join([f"-p {self.port}", *(f"-c {setting}" for setting in settings)])
        for left in range(40, -1, -1):  # the processes of a server that was killed may take a while to notice
            try:
                return self._run("pg_ctl", "-D", f"{self.root}/data", "-w", "-l", f"{self.root}/log", "-o", flags, "start")
            except AssertionError:
                if not left:
                    raise
                time.sleep(0.5)

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", f"{self.root}/data", "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """As the loss of power would have it."""
        os.kill(int((self.root / "data" / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while self._alive() and time.monotonic() < deadline:
            time.sleep(0.05)

    def cut(self) -> int:
        """Ends every connection to the database but this one's; how many there were."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
            ).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        if self._alive():
            self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def _alive(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self._binaries / name), *arguments]
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        result = subprocess.run(
            [*prefix, *command],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert result.returncode == 0, result.stderr
