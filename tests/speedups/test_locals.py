"""The quick look at an asgiref Local: what is set is seen where asgiref shows it, nowhere else."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.local import Local
from asgiref.sync import async_to_sync, sync_to_async
from django.urls import base
from django.utils import timezone

from django_aio import run
from django_aio.speedups import locals as local_module
from django_aio.speedups.locals import QuickLocal, quick


@pytest.fixture
def pair() -> tuple[Any, Any]:
    local = Local()
    return local, quick(local)


def test_django_uses_it() -> None:
    # The language's too, until a test overrides LANGUAGE_CODE: Django makes another one then.
    for known in (base._urlconfs, base._prefixes, timezone._active):
        assert type(known) is QuickLocal


def test_set_read_and_deleted(pair: tuple[Any, Any]) -> None:
    local, quickly = pair
    assert not hasattr(quickly, "value")
    quickly.value = 1
    assert local.value == quickly.value == 1
    local.value = 2
    assert quickly.value == 2
    del quickly.value
    assert not hasattr(local, "value")
    with pytest.raises(AttributeError, match="value"):
        _ = quickly.value
    with pytest.raises(AttributeError):
        del quickly.value


def test_crossings_see_it_and_other_threads_do_not(pair: tuple[Any, Any]) -> None:
    """Each crossing writes what the next one reads, and the way back."""
    _, quickly = pair
    seen = []

    def in_thread() -> None:
        seen.append(quickly.value)
        quickly.value = "thread"

    async def main() -> None:
        seen.append(quickly.value)
        quickly.value = "coroutine"
        await sync_to_async(in_thread)()
        seen.append(quickly.value)
        await run(setattr, quickly, "value", "bridge")
        seen.append(quickly.value)

    quickly.value = "outside"
    async_to_sync(main)()
    assert seen == ["outside", "coroutine", "thread", "bridge"]
    assert quickly.value == "bridge"


def test_an_inherited_context_shows_what_asgiref_shows(pair: tuple[Any, Any]) -> None:
    """A thread that runs in a copy of the context does not see the value."""
    local, quickly = pair
    quickly.value = 1
    found: list[tuple[Any, Any]] = []

    def look() -> None:
        found.append((getattr(local, "value", None), getattr(quickly, "value", None)))

    thread = threading.Thread(target=contextvars.copy_context().run, args=[look])
    thread.start()
    thread.join()
    assert found[0][0] == found[0][1]


def test_tasks_have_values_of_their_own(pair: tuple[Any, Any]) -> None:
    _, quickly = pair

    async def put(value: int, turn: asyncio.Barrier) -> int:
        quickly.value = value
        await turn.wait()
        return quickly.value

    async def main() -> list[int]:
        turn = asyncio.Barrier(3)
        return await asyncio.gather(*(put(number, turn) for number in range(3)))

    assert asyncio.run(main()) == [0, 1, 2]


def test_another_asgiref_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_module, "Local", lambda: SimpleNamespace(_storage=None))
    local = Local()
    assert quick(local) is local
