"""What became of each test: a unittest result that writes one line of JSON for each.

A file of lines, not one document, so that a process that dies leaves what it knew.
"""

from __future__ import annotations

import faulthandler
import fcntl
import json
import time
import unittest
from pathlib import Path
from typing import Any, TextIO

from upstream.detector import Waits

# A test that takes longer ends its process with the stack of every thread, in seconds.
LIMIT = 300

# From best to worst: a test with subtests may have several.
OUTCOMES = ("passed", "expected failure", "skipped", "unexpected success", "failed", "error")
BAD = frozenset(("unexpected success", "failed", "error", "died"))


class Recorder(unittest.TextTestResult):
    """Writes each test's outcome, and fails the tests that made a faulty wait. Main thread only."""

    lines: TextIO
    waits: Waits | None = None

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        self._outcome, self._detail = "", ""
        self._began = time.monotonic()
        self._write(started=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        if self.waits is not None and self.waits.faults:
            faults, self.waits.faults[:] = list(self.waits.faults), []
            self.addFailure(test, _as_exc_info("\n".join(faults[:3])))
        super().stopTest(test)
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        self._write(
            id=test.id(),
            outcome=self._outcome or "passed",
            detail=self._detail,
            seconds=round(time.monotonic() - self._began, 4),
        )
        self._outcome = ""

    def _note(self, test: Any, outcome: str, detail: str = "") -> None:
        if not isinstance(test, unittest.TestCase):
            # setUpClass() and its like, which are not started.
            self._write(id=test.id(), outcome=outcome, detail=detail, seconds=0.0)
        elif not self._outcome or OUTCOMES.index(outcome) > OUTCOMES.index(self._outcome):
            self._outcome, self._detail = outcome, detail

    def _write(self, **line: Any) -> None:
        self.lines.write(json.dumps(line) + "\n")
        self.lines.flush()

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._note(test, "passed")

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._note(test, "error", self.errors[-1][1])

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._note(test, "failed", self.failures[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            failed = issubclass(err[0], test.failureException)
            detail = (self.failures if failed else self.errors)[-1][1]
            self._note(test, "failed" if failed else "error", f"{subtest}\n{detail}")

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._note(test, "expected failure")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        self._note(test, "unexpected success", "it was expected to fail")


def _as_exc_info(message: str) -> tuple[type[AssertionError], AssertionError, None]:
    error = AssertionError(message)
    return AssertionError, error, None


def runner_class(base: type[Any], lines: TextIO, waits: Waits | None) -> type[Any]:
    """Django's runner `base`, writing what becomes of each test to `lines`."""

    class Runner(base):  # type: ignore[misc]
        def setup_databases(self, **kwargs: Any) -> Any:
            # One process at a time: the tables of the whole suite are created in one transaction,
            # and two of those need more locks than PostgreSQL has by default.
            with open(Path(lines.name).parents[1] / "databases.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return super().setup_databases(**kwargs)

        def get_resultclass(self) -> type[unittest.TextTestResult]:
            result = super().get_resultclass() or unittest.TextTestResult
            return type("Result", (Recorder, result), {"lines": lines, "waits": waits})

    return Runner
