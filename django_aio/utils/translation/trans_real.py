"""The language of a site that has one.

(Django documentation, "Translation".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.utils.translation import trans_real

from django_aio.utils.local import QuickLocal


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
