"""`FileSystemStorage.url()`: cache the URLs of files.

Above all those of static files: every page names the same five, and each time `urljoin()` parses
both of its arguments and joins them. Called by any thread.

(Django documentation, "The `FileSystemStorage` class".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.core.files.storage import FileSystemStorage

from django_aio.speedups.bounded import keep
from django_aio.speedups.escaping import TEXT

# The attribute of a storage with its URLs, and their greatest number: users upload files too.
MADE = "_aio_urls"
MOST = 1024


def url(upstream: Callable[[Any, str | None], str]) -> Callable[[Any, str | None], str]:
    """`FileSystemStorage.url()`: a URL depends only on the name and on the storage's base URL."""

    @functools.wraps(upstream)
    def url(self: FileSystemStorage, name: str | None) -> str:
        if type(name) not in TEXT:
            return upstream(self, name)
        known: dict[Any, str] = vars(self).setdefault(MADE, {})
        key = self.base_url, name
        found = known.get(key)
        if found is None:
            found = upstream(self, name)
            keep(known, key, found, MOST)
        return found

    return url
