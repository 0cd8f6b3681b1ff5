"""The active language, and translations that are looked up once: what Django finds."""

from __future__ import annotations

from gettext import GNUTranslations
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import translation
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import trans_real
from django.utils.translation.reloader import translation_file_changed

from django_aio.utils.translation import trans_real as ours


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


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages that are looked for in catalogs."""
    found: list[str] = []
    upstream = GNUTranslations.gettext

    def gettext(self: Any, message: str) -> str:
        found.append(message)
        return upstream(self, message)

    monkeypatch.setattr(GNUTranslations, "gettext", gettext)
    for catalog in trans_real._translations.values():
        vars(catalog).pop(ours.FOUND, None)
    return found


def test_a_translation_is_looked_up_once(lookups: list[str]) -> None:
    for language, expected in (("de", "Montag"), ("fr", "lundi"), ("de", "Montag")):
        with translation.override(language):
            assert {translation.gettext("Monday") for _ in range(3)} == {expected}
    assert lookups.count("Monday") <= 2 + 1  # French ones may ask the default language too


def test_what_has_no_translation(lookups: list[str]) -> None:
    with translation.override("de"):
        assert {translation.gettext("No such message") for _ in range(3)} == {"No such message"}
        assert translation.gettext("") == ""
        safe = translation.gettext(mark_safe("<b>none</b>"))
        assert type(safe) is SafeString
        assert type(translation.gettext("<b>none</b>")) is str
    assert lookups.count("No such message") <= 2  # in the default language too


def test_a_catalog_that_is_added_is_looked_into() -> None:
    catalog = trans_real.DjangoTranslation("de", domain="of_a_test", localedirs=[])
    assert catalog.gettext("A message of a test") == "A message of a test"
    other = GNUTranslations()
    other._catalog = {"A message of a test": "Eine Meldung"}  # type: ignore[attr-defined]
    other.plural = lambda n: int(n != 1)  # type: ignore[attr-defined]
    catalog.merge(other)
    assert catalog.gettext("A message of a test") == "Eine Meldung"


def test_no_more_is_kept_than_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "MOST", 3)
    catalog = trans_real.translation("de")
    for number in range(10):
        assert catalog.gettext(f"message {number}") == f"message {number}"
        assert len(vars(catalog)[ours.FOUND]) <= 3


def test_safe_text_does_not_make_plain_text_safe() -> None:
    """Both are equal, and a catalog without a translation answers with what it was asked."""
    catalog = trans_real.translation("de")
    for text in (mark_safe("<i>none</i>"), "<i>none</i>", mark_safe("<i>none</i>")):
        assert type(catalog.gettext(text)) is type(text)
