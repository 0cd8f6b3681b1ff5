"""What is kept so as not to be worked out again, as long as there is not too much of it."""

from __future__ import annotations

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def keep(kept: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Keep a value. Of more than `most` all are forgotten: what is still asked for comes back.

    Any thread.
    """
    if len(kept) >= most:
        kept.clear()
    kept[key] = value
