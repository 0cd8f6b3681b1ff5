"""Transfers under cancellation, kills and collections: `benchmarks/storm.py`, for a few seconds."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

STORM = Path(__file__).resolve().parents[2] / "benchmarks" / "storm.py"


@pytest.mark.parametrize("pool", ["no", "yes"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_books_balance(loop, pool):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    if settings.TEST_DB == "sqlite" and pool == "yes":
        pytest.skip("SQLite has no pool")
    command = [sys.executable, STORM, "--seconds", "5", "--database", settings.TEST_DB]
    command += ["--loop", loop, "--pool", pool]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "transfers" in done.stdout
