"""The setting `AIO`: the modules whose synchronous code may run on the event loop.

    AIO = {"COOPERATIVE": ["polls", "rest_framework"]}

Read once, and again after a test has overridden it; any thread may ask.
"""

from __future__ import annotations

import functools

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

# Trusted without being named. asgiref's own wrappers wait by the bridge when they are inside it.
OURS = ("django", "django_aio", "asgiref")


@functools.cache
def listed() -> tuple[str, ...]:
    """The names in `AIO["COOPERATIVE"]`. Raises ImproperlyConfigured if the setting is wrong."""
    options = getattr(settings, "AIO", {})
    names = options.get("COOPERATIVE", ()) if isinstance(options, dict) else None
    if (
        not isinstance(names, (list, tuple, set, frozenset))
        or set(options) - {"COOPERATIVE"}
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise ImproperlyConfigured(
            "The AIO setting must be a dictionary whose only key 'COOPERATIVE' is a list of module "
            f"names, such as {{'COOPERATIVE': ['polls']}}. It is {options!r}."
        )
    return tuple(names)


@functools.cache
def on_list(module: str) -> bool:
    """Whether the module is Django's, ours, or named in the setting, itself or a package above."""
    return is_below(module, (*OURS, *listed()))


def is_below(module: str, names: tuple[str, ...]) -> bool:
    """Whether the module is one of `names`, or part of one of these packages."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "AIO":
        listed.cache_clear()
        on_list.cache_clear()


setting_changed.connect(_forget)
