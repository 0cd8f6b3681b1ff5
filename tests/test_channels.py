"""Channels beside us: its router, its consumers and its session and auth middleware go on to work.

Skipped where Channels is not installed. Settings that it needs come from a child process, because
`daphne` and `channels` are no apps of the other tests.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("channels") is None, reason="channels is not installed"
)

SCRIPT = Path(__file__).parent / "channels_site.py"


@pytest.mark.parametrize("what", ["router", "route"])
def test_channels(what):
    """In a process of its own: with daphne first in INSTALLED_APPS, as Channels' page says."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", SCRIPT, what],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "ok"
