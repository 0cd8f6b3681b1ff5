"""`manage.py check`: the only command that also reports mere information.

Other commands check the project too before they start, runserver at every reload. Each time they
would repeat what runs in a thread, which is not a fault.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage
from django.core.management.base import BaseCommand

Check = Callable[..., list[CheckMessage]]

_asked: ContextVar[bool] = ContextVar("django_aio_check_asked", default=False)


def handle(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`Command.handle` of `check`: have the checks report information too."""

    @functools.wraps(upstream)
    def handle(self: BaseCommand, *app_labels: str, **options: Any) -> Any:
        token = _asked.set(True)
        try:
            return upstream(self, *app_labels, **options)
        finally:
            _asked.reset(token)

    return handle


def when_asked(check: Check) -> Check:
    """A system check that finds nothing unless `manage.py check` runs it."""

    @functools.wraps(check)
    def find(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
        return check(app_configs, **kwargs) if _asked.get() else []

    return find
