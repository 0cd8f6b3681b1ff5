"""Caches of limited size."""

from __future__ import annotations

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def keep(kept: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Add a value to a cache. Empty the cache first if it has `most` entries.

    Entries that are still in use soon come back. Called by any thread.
    """
    if len(kept) >= most:
        kept.clear()
    kept[key] = value
