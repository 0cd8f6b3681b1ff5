"""Escaping: the same answers as Django's, for text of every kind."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable

import pytest
from django.template import Context, Engine, base, defaultfilters, defaulttags, library
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


class Safe(SafeString):
    """Safe text that is written in another way."""

    def __html__(self) -> str:
        return "another"


class Markup:
    """What knows its own HTML."""

    def __html__(self) -> str:
        return "<i>"


VALUES = (
    *("<b> & 'c'", "", Text("<b>"), mark_safe("<b>"), Safe("<b>"), b"<b>", 3, 1.5, None, Markup()),
    *(gettext_lazy("Yes"), ["<b>"]),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_conditional_escape(value: object) -> None:
    expected = html.conditional_escape.__wrapped__(value)  # type: ignore[attr-defined]
    answer = html.conditional_escape(value)
    assert (answer, type(answer)) == (expected, type(expected))
    assert html.conditional_escape(text=value) == expected
    formatted = html.format_html("<p>{} {name}</p>", value, name=value)
    assert (formatted, type(formatted)) == (f"<p>{expected} {expected}</p>", SafeString)


def test_safe_text_is_not_copied() -> None:
    safe = mark_safe("<b>")
    assert html.conditional_escape(safe) is safe


def test_conditional_escape_is_one_function() -> None:
    modules = (base, library, defaultfilters, defaulttags)
    functions = {vars(module)["conditional_escape"] for module in modules}
    assert functions == {html.conditional_escape}
    assert not hasattr(html.conditional_escape.__wrapped__, "__wrapped__")  # type: ignore[attr-defined]


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
