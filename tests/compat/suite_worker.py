"""One process of a suite: pytest on a package's own tests, in one mode.

    python -m compat.suite_worker       with a job in AIO_SUITE (JSON; see `suites.py`)

Writes to the job's file (see `suite_plugin.py`). Exit status 0 when all tests were run, whatever
became of them.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = str(Path(__file__).resolve().parents[1])


def main() -> int:
    """Run the job."""
    job = json.loads(os.environ["AIO_SUITE"])
    _enter(job["source"])
    import pytest
    from compat.suite_plugin import OnTheLoop, Recorder

    _adapt_settings(job)
    if job["configure"]:
        _configure()
    with open(job["results"], "w") as lines:
        recorder = Recorder(lines, job["done"])
        plugins: list[object] = [recorder]
        options = [
            "-p",
            "no:cacheprovider",
            "--continue-on-collection-errors",
            *job["options"],
            job["tests"],
        ]
        if job["settings"]:
            options += ["--ds", job["settings"]]
        if job["mode"] == "native":
            plugins.append(OnTheLoop(recorder))
            options = ["-p", "no:asyncio", *options]

        def run_all() -> None:
            recorder.end(int(pytest.main(options, plugins)))

        if job["mode"] != "native":
            run_all()
            return 0
        from django_aio.bridge import run

        asyncio.run(run(run_all))
    return 0


def _enter(source: str) -> None:
    """The package's folder comes first, as with `python -m pytest`; ours last."""
    sys.path[:] = [source, *(path for path in sys.path if path not in ("", TESTS)), TESTS]
    os.chdir(source)


def _configure() -> None:
    """Set Django up for a suite that has no settings."""
    import django
    from django.conf import settings

    settings.configure()
    django.setup()


def _adapt_settings(job: dict[str, Any]) -> None:
    """Have the suite's settings changed as soon as they are there, and before anybody reads them.

    They come from a module or from `settings.configure()`, whichever the suite has.
    """
    from django.conf import LazySettings

    def adapted(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> None:
            method(self, *args, **kwargs)
            _adapt(self._wrapped, job)

        return call

    for name in ("_setup", "configure"):
        setattr(LazySettings, name, adapted(getattr(LazySettings, name)))


def _adapt(settings: Any, job: dict[str, Any]) -> None:
    """Add "django_aio", name the modules that may run on the loop, and switch the database."""
    if job["mode"] != "stock":
        apps = settings.INSTALLED_APPS
        settings.INSTALLED_APPS = type(apps)(["django_aio", *apps])
    if job["mode"] == "native":
        settings.AIO = {"COOPERATIVE": job["cooperative"]}
    if job["database"] == "postgresql":
        settings.DATABASES = {
            alias: {
                **{name: value for name, value in old.items() if name not in ("OPTIONS", "TEST")},
                "ENGINE": "django.db.backends.postgresql",
                "NAME": f"aio_suite_{os.getpid()}_{alias}",
                "HOST": os.environ.get("PGHOST", "127.0.0.1"),
                "PORT": os.environ.get("PGPORT", "5432"),
                "USER": os.environ.get("PGUSER", "postgres"),
                "PASSWORD": os.environ.get("PGPASSWORD", ""),
            }
            for alias, old in settings.DATABASES.items()
        }


if __name__ == "__main__":
    sys.exit(main())
