"""The code that runs in a thread under ASGI, and why: the policy's answers for this project.

- `django_aio.I001`: a middleware, or some of its hooks.
- `django_aio.I002`: views, grouped by the module that is not on the list.
- `django_aio.I003`: an authentication backend.
- `django_aio.I004`: signal receivers, grouped in the same way.
- `django_aio.I006` and `I007`: caches and the session engine (`stores.py`).
- `django_aio.I008` and `I009`: tags, filters and context processors (`templates.py`).

Only `manage.py check` reports them: other commands check the project too, and a thread is not a
fault. Code that is marked `@blocking` is not reported: its author chose the thread. Views of
URLconfs that a middleware sets, and receivers that are connected later, are not seen.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from types import MethodType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Info
from django.dispatch import Signal
from django.urls import URLResolver, get_resolver

from django_aio.checks import stores, templates
from django_aio.checks.texts import by_module, imported, joined, remedy
from django_aio.core.handlers.base import is_mixed_in
from django_aio.core.management.commands.check import when_asked
from django_aio.policy import is_cooperative, obstacle
from django_aio.policy.classes import blocking_methods

# The hooks that the async form of MiddlewareMixin calls, and those that any middleware may have.
MIXIN_HOOKS = ("process_request", "process_response")
HOOKS = ("process_view", "process_exception", "process_template_response")
BACKEND_METHODS = ("aauthenticate", "aget_user")
# Sent at start-up, by migrations and in tests, not while a request is answered.
NOT_IN_REQUESTS = {"class_prepared", "pre_migrate", "post_migrate", "setting_changed"}


def check_middleware(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the middleware of `settings.MIDDLEWARE` that runs in a thread."""
    return [
        Info(
            f"The middleware {path!r} costs every request a thread for {what}: {why}.",
            hint=remedy(why.module, "make it a coroutine middleware (async_capable)"),
            obj=path,
            id="django_aio.I001",
        )
        for path, factory in imported(settings.MIDDLEWARE)
        if (why := obstacle(factory)) and not why.marked
        if (what := _what_in_thread(factory))
    ]


def _what_in_thread(factory: object) -> str:
    """Name what of a middleware that is not trusted runs in a thread, for the message."""
    if not getattr(factory, "async_capable", False):
        return "the whole of it" if getattr(factory, "sync_capable", True) else ""
    if not isinstance(factory, type):
        return ""
    names = [
        f"{name}()"
        for name in (MIXIN_HOOKS + HOOKS if is_mixed_in(factory) else HOOKS)
        if (hook := getattr(factory, name, None)) and not iscoroutinefunction(hook)
        if not is_cooperative(MethodType(hook, factory))
    ]
    return joined(names)


def check_views(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the synchronous views of the URLconf that run in a thread."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    resolver = get_resolver()
    views = [*_views(resolver.url_patterns), *_error_handlers(resolver)]
    return by_module(views, "view", "make them coroutine functions", "django_aio.I002")


def _views(patterns: Iterable[Any]) -> Iterator[Callable[..., Any]]:
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _views(pattern.url_patterns)
        elif callable(view := getattr(pattern, "callback", None)):
            yield view


def _error_handlers(resolver: URLResolver) -> Iterator[Callable[..., Any]]:
    for status in (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.INTERNAL_SERVER_ERROR,
    ):
        yield resolver.resolve_error_handler(int(status))
    yield from (view for _, view in imported([settings.CSRF_FAILURE_VIEW]))


def check_backends(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the authentication backends with methods that run in a thread."""
    if not apps.is_installed("django.contrib.auth"):
        return []
    return [
        Info(
            f"{joined(calls)} of the authentication backend {path!r} use a thread: {why}.",
            hint=remedy(why.module, "make it coroutine functions"),
            obj=path,
            id="django_aio.I003",
        )
        for path, backend in imported(settings.AUTHENTICATION_BACKENDS)
        if isinstance(backend, type) and (why := obstacle(backend)) and not why.marked
        if (calls := _blocking_calls(backend))
    ]


def _blocking_calls(backend: type) -> list[str]:
    from django.contrib.auth.backends import BaseBackend

    names = sorted(name for name in blocking_methods(backend) if not name.startswith("_"))
    # The async forms of BaseBackend call the method without the prefix; overrides do not.
    awaitable = [
        name
        for name in BACKEND_METHODS
        if getattr(backend, name, None) is getattr(BaseBackend, name) and name[1:] not in names
    ]
    return [f"{name}()" for name in dict.fromkeys(names + awaitable)]


def check_receivers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the synchronous receivers of signals that run in a thread."""
    receivers = [
        receiver
        for signal in _signals()
        for lookup, reference, *_ in signal.receivers
        if callable(receiver := _dereferenced(reference))
    ]
    return by_module(receivers, "receiver", "make them coroutine functions", "django_aio.I004")


def _signals() -> list[Signal]:
    """The signals that imported modules define at their top level."""
    found = {
        id(value): value
        for module in list(sys.modules.values())
        for name, value in list(getattr(module, "__dict__", {}).items())
        # isinstance() would evaluate Django's lazy objects.
        if issubclass(type(value), Signal) and name not in NOT_IN_REQUESTS
    }
    return list(found.values())


def _dereferenced(receiver: object) -> Any:
    return receiver() if isinstance(receiver, weakref.ReferenceType) else receiver


CHECKS = (
    *map(when_asked, (check_middleware, check_views, check_backends, check_receivers)),
    *stores.CHECKS,
    *templates.CHECKS,
)
