"""Context processors that are given to a `RequestContext`: of either colour."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.template.calls import adapt


def init_request_context(upstream: Callable[..., None]) -> Callable[..., None]:
    """`RequestContext.__init__`: its own processors, adapted."""

    @functools.wraps(upstream)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        upstream(self, *args, **kwargs)
        if self._processors:
            self._processors = tuple(adapt(each, "context processor") for each in self._processors)

    return __init__
