"""Escaping: the same answers as Django's, for text of every kind."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable

import pytest
from django.template import Context, Engine, base
from django.test import override_settings
from django.utils import html, translation
from django.utils.functional import Promise
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy


class Text(str):
    """A kind of text of a project's own."""


@pytest.mark.parametrize("kind", [str, Text, SafeString])
def test_text_is_escaped_once_more_each_time(kind: type[str]) -> None:
    """`escape()` escapes even what is safe already, and its answer is safe."""
    answer = html.escape(kind("<b> & 'c'"))
    assert answer == "&lt;b&gt; &amp; &#x27;c&#x27;"
    assert type(answer) is SafeString


def test_numbers_and_none_become_text() -> None:
    assert html.escape(3) == "3"
    assert html.escape(None) == "None"


@pytest.mark.parametrize("function", [html.escape, html.mark_safe])
def test_lazy_translations_stay_lazy(function: object) -> None:
    lazy = function(gettext_lazy("Yes & no"))  # type: ignore[operator]
    assert isinstance(lazy, Promise)
    assert str(lazy).startswith("Yes")


def test_safe_text_stays_the_same_object() -> None:
    safe = mark_safe("<b>")
    assert html.mark_safe(safe) is safe
    assert type(html.mark_safe("<b>")) is SafeString


def test_keywords_and_wrong_calls_are_answered_as_by_django() -> None:
    assert html.escape(text="<") == "&lt;"
    with pytest.raises(TypeError, match="escape"):
        html.escape("<", "b")


@pytest.mark.parametrize("autoescape", [True, False])
@pytest.mark.parametrize("kind", [str, Text, SafeString, gettext_lazy, str.encode])
def test_a_template_writes_text_of_every_kind(
    kind: Callable[[str], object], autoescape: bool
) -> None:
    """What is known to be plain takes the short way; the answer is that of the long one."""
    value = kind("<Yes> & 1.5")
    context = Context(autoescape=autoescape)
    expected = base.render_value_in_context.__wrapped__(value, context)  # type: ignore[attr-defined]
    answer = base.render_value_in_context(value, context)
    assert (answer, type(answer)) == (expected, type(expected))


class Level(enum.IntEnum):
    """A number with a name."""

    HIGH = 1234567


@pytest.mark.parametrize("separated", [True, False])
@pytest.mark.parametrize("use_l10n", [True, False, None])
@pytest.mark.parametrize("autoescape", [True, False])
@pytest.mark.parametrize("value", [0, -1, 1234567, 10**30, True, Level.HIGH, 1234.5, None])
def test_a_template_writes_numbers_of_every_kind(
    value: object, autoescape: bool, use_l10n: bool | None, separated: bool
) -> None:
    """A whole number without separators takes the short way, with the same answer."""
    context = Context(autoescape=autoescape, use_l10n=use_l10n)
    with override_settings(USE_THOUSAND_SEPARATOR=separated), translation.override("de"):
        expected = base.render_value_in_context.__wrapped__(value, context)  # type: ignore[attr-defined]
        answer = base.render_value_in_context(value, context)
    assert (answer, type(answer)) == (expected, type(expected))


def test_a_template_writes_numbers_and_dates_in_the_local_form() -> None:
    source = "{{ number }} {{ date }} {{ text }} {% firstof text %}"
    values = {"number": 1.5, "date": datetime.date(2020, 3, 1), "text": "<1.5>"}
    with translation.override("de"):
        answer = Engine().from_string(source).render(Context(values))
    assert answer == "1,5 1. März 2020 &lt;1.5&gt; &lt;1.5&gt;"
