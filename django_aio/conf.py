"""The setting `AIO`.

    AIO = {"COOPERATIVE": ["polls", "rest_framework"], "SPEEDUPS": False}

`COOPERATIVE` names the modules whose synchronous code may run on the event loop; `SPEEDUPS` says
whether the speed-ups (`speedups/`) are applied, True by default.

The setting is read once, and again after a test has overridden it; any thread may ask.
"""

from __future__ import annotations

import functools
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

# Trusted without being named. Inside the bridge asgiref's wrappers let the loop go on.
OURS = ("django", "django_aio", "asgiref")
KEYS = ("COOPERATIVE", "SPEEDUPS")


def _options() -> dict[str, Any]:
    """Return the setting. Raises ImproperlyConfigured if it is wrong."""
    options = getattr(settings, "AIO", {})
    if not isinstance(options, dict) or set(options) - set(KEYS):
        raise ImproperlyConfigured(
            "The AIO setting must be a dictionary whose only keys are 'COOPERATIVE' and 'SPEEDUPS'."
            f" It is {options!r}."
        )
    return options


@functools.cache
def listed() -> tuple[str, ...]:
    """Return the names in `AIO["COOPERATIVE"]`. Raises ImproperlyConfigured if they are wrong."""
    names = _options().get("COOPERATIVE", ())
    if not isinstance(names, (list, tuple, set, frozenset)) or not all(
        isinstance(name, str) and name for name in names
    ):
        raise ImproperlyConfigured(
            "AIO['COOPERATIVE'] must be a list of module names, such as ['polls']. It is "
            f"{names!r}."
        )
    return tuple(names)


@functools.cache
def speedups() -> bool:
    """Whether `AIO["SPEEDUPS"]` is on. Raises ImproperlyConfigured if it is not a bool."""
    value = _options().get("SPEEDUPS", True)
    if not isinstance(value, bool):
        raise ImproperlyConfigured(f"AIO['SPEEDUPS'] must be True or False. It is {value!r}.")
    return value


@functools.cache
def on_list(module: str) -> bool:
    """Whether the module is Django's, ours, or one that the setting names, itself or a parent."""
    return is_below(module, (*OURS, *listed()))


def is_below(module: str, names: tuple[str, ...]) -> bool:
    """Whether the module is one of `names`, or part of one of these packages."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "AIO":
        listed.cache_clear()
        speedups.cache_clear()
        on_list.cache_clear()


setting_changed.connect(_forget)
