"""One process of the run: Django's `runtests` module on some labels, in one mode.

    python -m upstream.worker [--failfast] [--pdb]      with a job in AIO_UPSTREAM

Writes to the job's file (see `outcomes.py`). Exit status 0 when all labels were run, whatever
became of the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import functools
import importlib
import inspect
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

TESTS = str(Path(__file__).resolve().parents[1])


def main() -> int:
    """Run the job's labels."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--failfast", action="store_true")
    parser.add_argument("--pdb", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    job = json.loads(os.environ["AIO_UPSTREAM"])
    _enter(job["suite"])
    runtests = importlib.import_module("runtests")
    if options.list:
        print(json.dumps(sorted(runtests.get_test_modules(gis_enabled=False))))
        return 0
    folder = tempfile.mkdtemp(prefix="django_")
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    try:
        with open(job["results"], "w") as lines:
            _run(job, runtests, options, lines)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _enter(suite: str) -> None:
    """The suite's folder comes first, as when its own `runtests.py` is run; ours last."""
    sys.path[:] = [suite, *(path for path in sys.path if path not in ("", TESTS)), TESTS]
    os.chdir(suite)
    os.environ["DJANGO_SETTINGS_MODULE"] = "upstream.settings"


def _run(job: dict[str, Any], runtests: Any, options: Any, lines: TextIO) -> None:
    from upstream import detector, outcomes

    waits = comparison = None
    if job["mode"] == "native":
        waits = detector.Waits()
        _when_ready(functools.partial(detector.watch, waits))
    if job["verify"]:
        from sql_check import Comparison, watch

        comparison = Comparison()
        _when_ready(functools.partial(watch, comparison))
    if job["mode"] != "stock":
        runtests.ALWAYS_INSTALLED_APPS.insert(0, "django_aio")
    if job["selenium"]:
        _use_browser(job["mode"])
    get_runner = runtests.get_runner
    runtests.get_runner = lambda settings: outcomes.runner_class(get_runner(settings), lines, waits)
    began = time.monotonic()
    _django_tests(job, runtests, options)
    faulthandler.cancel_dump_traceback_later()
    end = {"ended": True, "seconds": time.monotonic() - began}
    if waits is not None:
        end |= {
            "cooperative": waits.cooperative,
            "threads": waits.threads,
            "faults": waits.faults,  # outside any test
        }
    if comparison is not None:
        end |= {"compared": comparison.compared, "differences": comparison.differences}
    lines.write(json.dumps(end) + "\n")


def _use_browser(mode: str) -> None:
    """Run the tests that need a browser; in native mode they are served by ASGI."""
    import browsers
    from django.test.selenium import SeleniumTestCase

    browsers.use_chromium()
    if mode == "native":
        from django_aio.test.live import ASGILiveServerThread

        SeleniumTestCase.server_thread_class = ASGILiveServerThread


def _when_ready(action: Callable[[], object]) -> None:
    """Call `action()` as soon as the series is applied."""
    from django_aio.apps import DjangoAIOConfig

    ready = DjangoAIOConfig.ready

    def ready_and_act(self: Any) -> None:
        ready(self)
        DjangoAIOConfig.ready = ready  # type: ignore[method-assign]
        action()

    DjangoAIOConfig.ready = ready_and_act  # type: ignore[method-assign]


def _django_tests(job: dict[str, Any], runtests: Any, options: Any) -> None:
    """Call Django's entry point; in native mode inside the bridge, on one loop."""
    values = dict.fromkeys(("interactive", "keepdb", "reverse", "debug_sql", "buffer"), False)
    values |= {"timing": False, "shuffle": False, "parallel": 1, "verbosity": 1}
    values |= {"failfast": options.failfast, "pdb": options.pdb, "test_labels": job["labels"]}
    if job["selenium"]:
        values["tags"] = ["selenium"]
    # What else it takes, which differs from one Django to the next, is not asked for.
    wanted = {
        name: values.get(name) for name in inspect.signature(runtests.django_tests).parameters
    }
    if job["mode"] != "native":
        runtests.django_tests(**wanted)
        return
    from django_aio.bridge import run

    asyncio.run(run(runtests.django_tests, **wanted))


if __name__ == "__main__":
    sys.exit(main())
