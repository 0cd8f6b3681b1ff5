"""Parts of a request that note where they run: each its name and "loop" or "thread"."""

import asyncio
import threading

from django.core.handlers.base import BaseHandler
from django.http import HttpResponse
from django.test import AsyncRequestFactory, override_settings
from django.urls import path as url_path

seen: list[str] = []


def note(name):
    on_loop = threading.current_thread() is threading.main_thread()
    seen.append(f"{name} {'loop' if on_loop else 'thread'}")


def path(thing):
    """What a setting calls it."""
    return f"{thing.__module__}.{thing.__name__}"


async def through(middleware, view):
    """Answer one request by `view`, through these middleware paths."""
    request = AsyncRequestFactory().get("/")
    request.urlconf = (url_path("", view),)
    with override_settings(MIDDLEWARE=middleware, DEBUG_PROPAGATE_EXCEPTIONS=True):
        handler = BaseHandler()
        handler.load_middleware(is_async=True)
        return await handler.get_response_async(request)


class Deferred(HttpResponse):
    """A response that is rendered by a coroutine."""

    async def render(self):
        await asyncio.sleep(0)
        self.content = b"rendered"
        return self


def noting(name, answer=None):
    """A synchronous function of this module that notes where it runs."""

    def func(*args, **kwargs):
        note(name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return func


class Rendering:
    """A template that notes where it is rendered."""

    def render(self, context, request=None):
        note("rendering")
        return "rendered"
