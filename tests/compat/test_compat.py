"""Other people's packages: each has a small site of its own here, run in a process of its own.

Skipped where the package is not installed; `tox -e compat` installs all. `table.py` reads the list.
"""

import pytest
from compat.table import HERE, packages
from django.conf import settings

PACKAGES = packages()
POOLS = ("", "1") if settings.TEST_DB == "postgresql" else ("",)


@pytest.mark.parametrize("pool", POOLS, ids=["pool" if pool else "as it is" for pool in POOLS])
@pytest.mark.parametrize("package", PACKAGES, ids=[package.script[:-3] for package in PACKAGES])
def test_package(package, pool):
    """What its script prints last is "ok"; nothing is left open or never awaited on the way."""
    if reason := package.why_not(settings.TEST_DB):
        pytest.skip(reason)
    fault = package.fault(settings.TEST_DB, pool)
    if package.lacks:
        assert fault, f"{package.script} passes: take `lacks` out of packages.toml"
        pytest.xfail(package.lacks)
    assert not fault, fault


def test_each_script_has_a_row():
    assert {package.script for package in PACKAGES} == {
        path.name for path in HERE.glob("with_*.py")
    }
