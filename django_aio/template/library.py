"""The functions of `simple_tag`, `simple_block_tag` and `inclusion_tag`: of either colour.

Coroutine functions are awaited; synchronous ones run where the policy says.
(Django documentation, "Custom template tags and filters".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_aio.template.calls import adapt


def init_helper(upstream: Callable[..., None]) -> Callable[..., None]:
    """`TagHelperNode.__init__`: the function of the tag, adapted."""

    @functools.wraps(upstream)
    def __init__(self: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        upstream(self, adapt(func, "template tag"), *args, **kwargs)

    return __init__
