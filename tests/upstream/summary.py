"""Adds up what the processes wrote: what fails here and not in stock, waits, time."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upstream.outcomes import BAD

# unittest's names for what failed outside a test: "setUpClass (module.Class)".
OUTSIDE = re.compile(r"^\w+ \(([\w.]+)\)$")
NOT_LOADED = "unittest.loader._FailedTest."


@dataclass
class Run:
    """One run of the suite, all processes together."""

    outcomes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # by top-level label
    waits: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)  # outside any test
    compared: int = 0  # queries, with --verify-sql
    differences: list[str] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """Add the results of one process. One that died gets an outcome for its last test."""
        started, ended = "", False
        for line in path.read_text().splitlines() if path.exists() else ():
            entry: dict[str, Any] = json.loads(line)
            if "started" in entry:
                started = entry["started"]
            elif "ended" in entry:
                ended = True
                for name in ("cooperative", "threads"):
                    self.waits[name] += entry.get(name, 0)
                self.faults += entry.get("faults", [])
                self.compared += entry.get("compared", 0)
                self.differences += entry.get("differences", [])
            else:
                started = ""
                self._add(entry)
        if not ended:
            name = started or f"the process that wrote {path.name}"
            self.outcomes[name] = "died"
            self.details[name] = f"The process ended before its time; see {path.stem}.log."

    def _add(self, entry: dict[str, Any]) -> None:
        test = entry["id"]
        self.outcomes[test] = entry["outcome"]
        self.details[test] = entry["detail"]
        label = test.split(".")[0]
        self.seconds[label] = self.seconds.get(label, 0.0) + entry["seconds"]

    def failures(self) -> list[str]:
        """The ids of the tests that did not end as they should."""
        return [test for test, outcome in self.outcomes.items() if outcome in BAD]

    def counts(self) -> dict[str, int]:
        found = Counter(self.outcomes.values())
        skipped = found["skipped"]
        failed = sum(found[outcome] for outcome in BAD)
        return {
            "run": len(self.outcomes) - skipped,
            "passed": len(self.outcomes) - skipped - failed,
            "failed": failed,
            "skipped": skipped,
        }


def labels_of(tests: Iterable[str]) -> list[str]:
    """What to run in order to run these tests again."""
    labels = []
    for test in tests:
        outside = OUTSIDE.match(test)
        labels.append(outside[1] if outside else test.removeprefix(NOT_LOADED))
    return sorted(set(labels))


def print_failures(tests: list[str], run: Run) -> None:
    for test in tests:
        print(f"\n{'=' * 70}\n{run.outcomes[test].upper()}: {test}\n{'-' * 70}")
        print(run.details[test].rstrip())
