"""`FileSystemStorage.url()`: the URL of a file that was asked for before is answered by one look.

Static files above all: a page names five of them, each page the same, and `urljoin()` takes its two
halves apart and puts them together. Any thread.

(Django documentation, "The `FileSystemStorage` class".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.core.files.storage import FileSystemStorage

from django_aio.speedups.bounded import keep
from django_aio.speedups.escaping import TEXT

# Where a storage keeps the URLs that it has made, and how many: users upload files too.
MADE = "_aio_urls"
MOST = 1024


def url(upstream: Callable[[Any, str | None], str]) -> Callable[[Any, str | None], str]:
    """`FileSystemStorage.url()`: it depends on the name and on the storage's base URL alone."""

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
