"""`SimpleTestCase` and the other test cases in coroutines.

If a test may not use the database, Django replaces methods of its connections by ones that raise.
An asynchronous test uses the same connections (R1), so its coroutines call these methods too.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_aio.bridge import in_bridge
from django_aio.db.backends.utils import CursorOpener

if TYPE_CHECKING:
    from django.test.testcases import _DatabaseFailure


def forbid(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`_DatabaseFailure.__call__`: in a coroutine, synchronous code gets its usual error.

    That is `SynchronousOnlyOperation`. Everywhere else the error is `DatabaseOperationForbidden`,
    also for `async with connection.cursor()`.
    """

    @functools.wraps(upstream)
    def __call__(self: _DatabaseFailure, *args: Any, **kwargs: Any) -> Any:
        in_coroutine = asyncio._get_running_loop() is not None and not in_bridge()
        if in_coroutine and self.wrapped.__name__.endswith("cursor"):
            return CursorOpener(lambda caller: upstream(self), "")
        return upstream(self, *args, **kwargs)

    return __call__
