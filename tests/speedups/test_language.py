"""The active language: what Django finds."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.test import override_settings
from django.utils import translation
from django.utils.translation import trans_real
from django.utils.translation.reloader import translation_file_changed


def test_the_language_of_a_site_that_has_one() -> None:
    """Told by one look as long as nothing is activated; else what is activated."""
    for code in ("en-us", "de"):
        with override_settings(LANGUAGE_CODE=code):
            assert translation.get_language() == trans_real.get_language() == code
    with translation.override("fr"):
        assert translation.get_language() == "fr"
    with translation.override(None):
        assert translation.get_language() is None
    translation.activate("es")
    assert translation.get_language() == "es"
    translation.deactivate()
    assert translation.get_language() == settings.LANGUAGE_CODE


def test_the_language_after_a_file_of_translations_was_changed(tmp_path: Path) -> None:
    """The development server makes another Local then."""
    before, default = trans_real._active, trans_real._default
    try:
        translation_file_changed(None, tmp_path / "django.mo")
        assert trans_real._active is not before
        with translation.override("fr"):
            assert translation.get_language() == "fr"
        assert translation.get_language() == settings.LANGUAGE_CODE
    finally:
        trans_real._active, trans_real._default = before, default
