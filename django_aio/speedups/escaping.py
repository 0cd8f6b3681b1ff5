"""Escaping of plain text and whole numbers, without checks that cannot apply to them.

`escape()` and `mark_safe()` accept lazy translations too, and look for one among their arguments at
every call: thousands of times for one page of the admin. A `str` is not lazy. Nor is it a date or a
number, which a template localizes before it writes them. And a whole number has a local form only
if thousands are separated.

Results and errors are unchanged. Called by any thread.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.template.context import Context
from django.utils import html
from django.utils.safestring import SafeString

# The types of plain text.
TEXT = frozenset({str, SafeString})


def escape_text(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a `keep_lazy()` function of one text: plain text goes straight to the inner function."""
    direct: Callable[[Any], Any] = upstream.__wrapped__  # type: ignore[attr-defined]

    @functools.wraps(upstream)
    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and type(args[0]) in TEXT and not kwargs:
            return direct(args[0])
        return upstream(*args, **kwargs)

    return call


@functools.cache
def conditional_escape(upstream: Callable[[Any], str]) -> Callable[[Any], str]:
    """`conditional_escape()`, one for all modules: escape plain text, return safe text."""
    escape: Callable[..., str] = inspect.unwrap(html.escape)

    @functools.wraps(upstream)
    def conditional_escape(text: object) -> str:
        kind = type(text)
        if kind is SafeString:
            return text  # type: ignore[return-value]
        return escape(text) if kind is str else upstream(text)

    return conditional_escape


def render_value(upstream: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
    """`render_value_in_context()`: only escape plain text, and return safe text as it is.

    A whole number becomes safe text too, unless a separator of thousands may go into it.
    """
    escape: Callable[[str], str] = inspect.unwrap(html.escape)

    @functools.wraps(upstream)
    def render_value_in_context(value: Any, context: Context) -> str:
        kind = type(value)
        if kind is SafeString:
            return value  # type: ignore[no-any-return]
        if kind is str:
            return escape(value) if context.autoescape else value
        if kind is int and context.autoescape and not settings.USE_THOUSAND_SEPARATOR:
            return SafeString(value)
        return upstream(value, context)

    return render_value_in_context
