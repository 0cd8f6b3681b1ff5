"""Tags, filters and context processors that run in a thread when the bridge renders a page.

- `django_aio.I008`: tags and filters, grouped by the module that is not on the list.
- `django_aio.I009`: a context processor.

Only `manage.py check` reports them. The checks cover every library that templates can load, whether
or not one does. They judge a tag by the function that compiles it: the node that it makes, perhaps
of another module, is not known before there is a template. They do not judge what Jinja2 calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Info
from django.template import engines
from django.template.backends.django import DjangoTemplates
from django.template.library import import_library

from django_aio.checks.texts import by_module, imported, remedy
from django_aio.core.management.commands.check import when_asked
from django_aio.policy import obstacle
from django_aio.template.calls import is_asynchronous


def check_libraries(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the tags and filters that run in a thread."""
    remedies = "make them coroutine functions"
    return by_module(_registered(), "template function", remedies, "django_aio.I008")


def _registered() -> Iterator[Callable[..., Any]]:
    for engine in engines.all():
        if isinstance(engine, DjangoTemplates):
            libraries = [
                *engine.engine.template_builtins,
                *map(import_library, engine.engine.libraries.values()),
            ]
            for library in libraries:
                yield from library.tags.values()
                yield from library.filters.values()


def check_context_processors(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Report the context processors that run in a thread."""
    return [
        Info(
            f"The context processor {path!r} costs every page a thread: {why}.",
            hint=remedy(why.module, "make it a coroutine function"),
            obj=path,
            id="django_aio.I009",
        )
        for path, processor in imported(dict.fromkeys(_processors()))
        if not is_asynchronous(processor)
        if (why := obstacle(processor)) and not why.marked
    ]


def _processors() -> Iterator[str]:
    for engine in engines.all():
        # A backend has the context processors itself, or its engine has them.
        found = getattr(engine, "engine", engine)
        yield from getattr(found, "context_processors", ())


CHECKS = tuple(map(when_asked, (check_libraries, check_context_processors)))
