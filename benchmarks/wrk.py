"""Load: one run of wrk against one page.

wrk keeps a fixed number of connections busy (a closed loop): a slow server gets fewer requests, so
latency is the other side of the rate here, not a second, independent result.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("wrk.lua")

# wrk counts an answer that takes longer as an error. Two seconds, its default, is not a fault for
# a page of twenty queries with many clients; a server that hangs is one.
TIMEOUT_SECONDS = 30


class LoadError(RuntimeError):
    """wrk could not run, or not every response was a success."""


@dataclass(frozen=True)
class Sample:
    """What one run of wrk measured."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float


def require_wrk() -> None:
    """Raise LoadError now rather than after the database has been made."""
    if shutil.which("wrk") is None:
        raise LoadError("wrk is not installed. It makes the load; most distributions package it.")


def load(url: str, *, connections: int, seconds: int, cookies: str = "", form: str = "") -> Sample:
    """Ask for `url` as often as `connections` clients can in `seconds`.

    With a `form` (URL-encoded; `%d` stands for 0 to 99 in turn) it is posted.
    Raises LoadError if a response was an error (wrk counts the statuses above 399), if a
    connection broke, or if nothing was answered at all.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_SECONDS}s"]
    if cookies:
        command += ["-H", f"Cookie: {cookies}"]
    command += ["-s", str(SCRIPT), url, *(["--", form] if form else [])]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = [line for line in finished.stdout.splitlines() if line.startswith("{")]
    if finished.returncode or not lines:
        raise LoadError(f"wrk failed: {finished.stdout}{finished.stderr}".strip())
    return _sample(json.loads(lines[-1]))


def _sample(summary: dict[str, int]) -> Sample:
    """Wrk's summary, in microseconds, as a Sample."""
    if summary["bad_status"] or summary["broken"]:
        raise LoadError(
            f"of {summary['requests']} responses {summary['bad_status']} had an error status, "
            f"and {summary['broken']} connections failed or timed out"
        )
    if not summary["requests"]:
        raise LoadError("no request was answered")
    return Sample(
        requests_per_second=summary["requests"] / (summary["duration"] / 1e6),
        p50_ms=summary["p50"] / 1e3,
        p99_ms=summary["p99"] / 1e3,
    )
