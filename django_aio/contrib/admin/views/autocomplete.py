"""The view of autocomplete fields: it searches where the policy says.

It calls methods of the admin class of whichever model is searched. Where one of those that are
registered searches or permits by code which the policy does not trust, the view goes to a thread.

Called by whoever serves the admin, in any thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.contrib.admin.sites import SEARCH, where_trusted


def get(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`AutocompleteJsonView.get`: in a thread if an admin class is not trusted."""

    @functools.wraps(upstream)
    def get(self: Any, *args: Any, **kwargs: Any) -> Any:
        return where_trusted(upstream, self.admin_site, SEARCH)(self, *args, **kwargs)

    return get
