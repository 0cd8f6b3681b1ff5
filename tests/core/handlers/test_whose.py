"""Many clients with identities, languages, zones and tenants: no answer is another's."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import postgresql_only

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@postgresql_only
@pytest.mark.parametrize("pool", ["yes", "no"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_every_answer_is_the_clients_own(loop, pool):
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / "whose.py")]
    options = ["--seconds", "4", "--clients", "12", "--loop", loop, "--pool", pool]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
