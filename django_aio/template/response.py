"""`SimpleTemplateResponse.arender()`: for who renders such a response himself.

The response of a view is rendered by the handler, in the bridge.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async

from django_aio.bridge import run
from django_aio.policy import is_cooperative, log_hop


async def arender(self: Any) -> Any:
    """Render the response, on the loop if the policy trusts its class and its callbacks there.

    Returns what `render()` does: the response, or what a callback made of it. May be called by any
    coroutine. (Django documentation, "TemplateResponse and SimpleTemplateResponse".)
    """
    if all(map(is_cooperative, (type(self), *self._post_render_callbacks))):
        return await run(self.render)
    log_hop("response", type(self))
    return await sync_to_async(self.render)()
