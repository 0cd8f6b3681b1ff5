"""What the checks about the policy share: what the settings name, and how a remedy is put."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.utils.module_loading import import_string


def imported(paths: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """What the settings name. What cannot be imported is for Django to complain about."""
    for path in paths:
        try:
            yield path, import_string(path)
        except ImportError:
            continue


def remedy(module: str, otherwise: str) -> str:
    """The hint for something that goes to a thread because of `module`."""
    return (
        f"If nothing in {module} blocks but Django's own calls, add it to AIO['COOPERATIVE']. "
        f"Otherwise {otherwise}, or leave it: it works."
    )


def joined(names: list[str]) -> str:
    """The names with commas and an 'and'."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
