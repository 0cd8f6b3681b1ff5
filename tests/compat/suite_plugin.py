"""pytest plugins for the suites of other packages: what became of each test, and tests on a loop.

The lines written are those of `upstream/outcomes.py`, so that `upstream.summary` can read them.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import inspect
import json
import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator
from typing import Any, TextIO

import pytest
from upstream.detector import Waits, watch
from upstream.outcomes import OUTCOMES

# A test that takes longer ends its process with the stack of every thread, in seconds.
LIMIT = 90


class Recorder:
    """Writes each test's outcome; one that made a faulty wait has failed. Main thread only."""

    def __init__(self, lines: TextIO, done: Collection[str]) -> None:
        self.waits: Waits | None = None
        self._lines = lines
        self._done = frozenset(done)  # what an earlier process has run
        self._outcome, self._detail, self._began = "", "", 0.0

    def end(self, status: int) -> None:
        """Say that all tests have been run. What hangs from now on is ended as well."""
        counts: dict[str, Any] = {"ended": True, "status": status}
        if self.waits is not None:
            counts |= {"cooperative": self.waits.cooperative, "threads": self.waits.threads}
            counts["faults"] = self.waits.faults  # outside any test
        self._write(**counts)
        faulthandler.dump_traceback_later(LIMIT, exit=True)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self._done]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed and report.nodeid not in self._done:
            outcome = "error" if report.failed else "skipped"
            self._write(id=report.nodeid, outcome=outcome, detail=_reason(report), seconds=0.0)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        self._outcome, self._detail, self._began = "", "", time.monotonic()
        self._write(started=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._note("failed" if report.when == "call" else "error", _reason(report))
        elif report.skipped:
            expected = hasattr(report, "wasxfail")
            self._note("expected failure" if expected else "skipped", _reason(report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if self.waits is not None and self.waits.faults:
            faults, self.waits.faults[:] = list(self.waits.faults), []
            self._note("failed", "\n".join(faults[:3]))
        seconds = round(time.monotonic() - self._began, 4)
        outcome = self._outcome or "passed"
        self._write(id=nodeid, outcome=outcome, detail=self._detail, seconds=seconds)
        faulthandler.dump_traceback_later(LIMIT, exit=True)

    def _note(self, outcome: str, detail: str) -> None:
        if not self._outcome or OUTCOMES.index(outcome) > OUTCOMES.index(self._outcome):
            self._outcome, self._detail = outcome, detail

    def _write(self, **line: Any) -> None:
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Why it was skipped, or how it failed, with what was written meanwhile."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return f"{report.longreprtext}\n{report.capstdout}{report.capstderr}"


class OnTheLoop:
    """Awaits coroutine tests and fixtures on the loop that all of pytest runs on.

    For native mode, in the place of pytest-asyncio, which would start loops of its own.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "asyncio: awaited on the loop of the whole run")

    def pytest_sessionstart(self) -> None:
        """The series has been applied by now: look for waits that block."""
        self._recorder.waits = Waits()
        watch(self._recorder.waits)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Await a coroutine test, in a task of its own as pytest-asyncio does."""
        from django_aio.bridge import wait

        if not inspect.iscoroutinefunction(pyfuncitem.obj):
            return None
        names = pyfuncitem._fixtureinfo.argnames
        test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
        wait(asyncio.get_running_loop().create_task(test))
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        function: Any = fixturedef.func
        if inspect.isasyncgenfunction(function):
            fixturedef.func = _generator(function)  # type: ignore[misc]
        elif inspect.iscoroutinefunction(function):
            fixturedef.func = _waiting(function)  # type: ignore[misc]


def _waiting(function: Callable[..., Any]) -> Callable[..., Any]:
    from django_aio.bridge import wait

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return wait(function(*args, **kwargs))

    del call.__wrapped__  # type: ignore[attr-defined]  # pytest would look whether it is a coroutine
    return call


def _generator(function: Callable[..., AsyncGenerator[Any]]) -> Callable[..., Iterator[Any]]:
    from django_aio.bridge import wait

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Generator[Any]:
        fixture = function(*args, **kwargs)
        yield wait(anext(fixture))
        wait(anext(fixture, None))

    del call.__wrapped__  # type: ignore[attr-defined]
    return call
