"""What tests of requests through Django's contributed middleware share."""

import pytest
from django.db import connections


@pytest.fixture
def persistent(db, monkeypatch):
    """Connections live longer than a request, as on a site: connecting is not what is tested."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
