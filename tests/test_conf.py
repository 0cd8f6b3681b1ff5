"""Settings are read as Django reads them, and faster."""

from __future__ import annotations

import pytest
from django.conf import LazySettings, settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings


def test_overrides_are_seen_and_taken_back() -> None:
    before = settings.USE_TZ
    with override_settings(USE_TZ=not before, NEW="here"):
        assert settings.USE_TZ is not before
        assert settings.NEW == "here"
    assert settings.USE_TZ is before
    assert not hasattr(settings, "NEW")


def test_set_and_deleted() -> None:
    with override_settings():
        settings.NEW = 1
        assert settings.NEW == 1
        settings.NEW = 2
        assert settings.NEW == 2
        del settings.NEW
        with pytest.raises(AttributeError):
            _ = settings.NEW


def test_settings_of_its_own_are_configured_at_the_first_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not configured says so, as ever."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    lazy = LazySettings()
    assert not lazy.configured
    with pytest.raises(ImproperlyConfigured, match="DEBUG"):
        _ = lazy.DEBUG
    lazy.configure(DEBUG=True)
    assert lazy.DEBUG is True
    assert lazy.configured
