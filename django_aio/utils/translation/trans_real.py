"""Translations that are looked up once, and the language of a site that has one.

Each catalog of Django's is a stack of dictionaries, with fallbacks below it, and a message that has
no translation is looked for in all of them: the labels of every form, in the language that they
were written in. (Django documentation, "Translation".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from gettext import GNUTranslations
from typing import Any

from django.conf import settings
from django.utils.translation import trans_real

from django_aio.utils.kept import keep
from django_aio.utils.local import QuickLocal

# Where a catalog keeps what it has found, and how much: somebody may translate what users write.
FOUND = "_aio_found"
MOST = 5000


def gettext(self: Any, message: str) -> str:
    """`DjangoTranslation.gettext()`: what `GNUTranslations.gettext()` returns. Any thread."""
    if type(message) is not str:  # safe text without a translation is its own: not for plain text
        return GNUTranslations.gettext(self, message)
    found: dict[str, str] = vars(self).setdefault(FOUND, {})
    text = found.get(message)
    if text is None:
        text = GNUTranslations.gettext(self, message)
        keep(found, message, text, MOST)
    return text


def merge(upstream: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """`DjangoTranslation.merge()`: another catalog may have what was not found."""

    @functools.wraps(upstream)
    def merge(self: Any, other: Any) -> None:
        upstream(self, other)
        vars(self).pop(FOUND, None)

    return merge


def get_language(upstream: Callable[[], Any]) -> Callable[[], Any]:
    """`get_language()`: where nothing has been activated, one look tells the language.

    Each link of a page asks several times which it is. Any thread and task.
    """
    module: Any = trans_real

    @functools.wraps(upstream)
    def get_language() -> Any:
        active: Any = module._active  # another one after a file of translations was changed
        if type(active) is QuickLocal and active._data.get(None) is None:
            return settings.LANGUAGE_CODE
        return upstream()

    return get_language
