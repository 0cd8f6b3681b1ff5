"""What the tests of requests share."""

import pytest

from .notes import seen


@pytest.fixture(autouse=True)
def _nothing_seen():
    seen.clear()
