"""Who is compared, and how one of them is started and stopped.

Each contender serves the same site (`site/`) in one process, started for one measurement and
stopped after it, so that nothing one page leaves behind can reach the next.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
SITE = HERE / "site"
HOST = "127.0.0.1"
START_SECONDS = 30
STOP_SECONDS = 10


class ServerError(RuntimeError):
    """The server did not start, or ended before it was told to."""


@dataclass(frozen=True)
class Contender:
    """One way to serve the site."""

    title: str
    aio: bool = False
    sync_views: bool = False
    gunicorn: bool = False
    application: str = "bench.asgi:application"

    def missing(self) -> str | None:
        """Why this contender cannot run here, or None if it can."""
        if self.gunicorn and importlib.util.find_spec("gunicorn") is None:
            return "gunicorn is not installed"
        # Django takes any importable name for an app: without this a half-built checkout would
        # be measured as a contender that changes nothing.
        if self.aio and not (HERE.parent / "django_aio" / "apps.py").exists():
            return "this checkout has no django_aio.apps"
        return None

    def environ(self, database: dict[str, str]) -> dict[str, str]:
        """The environment of its server."""
        views = "sync" if self.sync_views else "async"
        return site_environ() | database | {"BENCH_AIO": str(int(self.aio)), "BENCH_VIEWS": views}

    def command(self, port: int, threads: int) -> list[str]:
        """The server's command line: one worker process, quiet but for warnings."""
        if self.gunicorn:
            options = ["--worker-class=gthread", f"--threads={threads}", "--log-level=warning"]
            options.append(f"--bind={HOST}:{port}")
            return [sys.executable, "-m", "gunicorn", *options, "bench.wsgi"]
        options = ["--workers=1", "--no-access-log", "--log-level=warning", "--lifespan=auto"]
        options += [f"--host={HOST}", f"--port={port}"]
        return [sys.executable, "-m", "uvicorn", *options, self.application]


# `asgi` is Django as it is, and what the others are compared with. The `-sync` ones serve
# synchronous views: what a project gets before it has rewritten anything.
CONTENDERS = {
    "asgi": Contender("Django, ASGI"),
    "aio": Contender("Django + django-aio", aio=True),
    "asgi-sync": Contender("Django, ASGI, sync views", sync_views=True),
    "aio-sync": Contender("Django + django-aio, sync views", aio=True, sync_views=True),
    "wsgi": Contender("Django, WSGI, threads", sync_views=True, gunicorn=True),
}


def site_environ() -> dict[str, str]:
    """This environment, with the site and this checkout of django-aio to import from."""
    path = [str(SITE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    settings = {"DJANGO_SETTINGS_MODULE": "bench.settings"}
    return os.environ | settings | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


@contextlib.contextmanager
def serve(contender: Contender, database: dict[str, str], threads: int) -> Iterator[str]:
    """Run the contender's server for the length of the block; yields its base URL.

    What the server writes is shown if it fails, and also if it does not: a warning that only
    appears under load is a finding.
    """
    port = _free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            contender.command(port, threads),
            env=contender.environ(database),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_listening(process, port, log)
            yield f"http://{HOST}:{port}"
            if process.poll() is not None:
                raise ServerError(f"the server ended by itself\n{_tail(log)}")
        finally:
            _stop(process)
            if written := _tail(log):
                print(f"The server of {contender.title} said:\n{written}", file=sys.stderr)


def _free_port() -> int:
    """A port that nobody uses at this moment; should someone take it, the server says so."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    """Return when the server accepts connections; raise ServerError if it never does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the server did not start\n{_tail(log)}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.05)
    raise ServerError(f"the server did not listen within {START_SECONDS} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop, and end it if it doesn't."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"A server did not stop within {STOP_SECONDS} s: killed.", file=sys.stderr)
        process.kill()
        process.wait()


def _tail(log: IO[bytes], lines: int = 30) -> str:
    """The end of what the server wrote."""
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
