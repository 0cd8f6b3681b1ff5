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
from django_aio.speedups.locals import DirectLocal, direct


@pytest.fixture
def pair() -> tuple[Any, Any]:
    local = Local()
    return local, direct(local)


def test_django_uses_it() -> None:
    # The language's too, until a test overrides LANGUAGE_CODE: Django makes another one then.
    for known in (base._urlconfs, base._prefixes, timezone._active):
        assert type(known) is DirectLocal


def test_set_read_and_deleted(pair: tuple[Any, Any]) -> None:
    local, direct_local = pair
    assert not hasattr(direct_local, "value")
    direct_local.value = 1
    assert local.value == direct_local.value == 1
    local.value = 2
    assert direct_local.value == 2
    del direct_local.value
    assert not hasattr(local, "value")
    with pytest.raises(AttributeError, match="value"):
        _ = direct_local.value
    with pytest.raises(AttributeError):
        del direct_local.value


def test_crossings_see_it_and_other_threads_do_not(pair: tuple[Any, Any]) -> None:
    """Each crossing writes what the next one reads, and the way back."""
    _, direct_local = pair
    seen = []

    def in_thread() -> None:
        seen.append(direct_local.value)
        direct_local.value = "thread"

    async def main() -> None:
        seen.append(direct_local.value)
        direct_local.value = "coroutine"
        await sync_to_async(in_thread)()
        seen.append(direct_local.value)
        await run(setattr, direct_local, "value", "bridge")
        seen.append(direct_local.value)

    direct_local.value = "outside"
    async_to_sync(main)()
    assert seen == ["outside", "coroutine", "thread", "bridge"]
    assert direct_local.value == "bridge"


def test_an_inherited_context_shows_what_asgiref_shows(pair: tuple[Any, Any]) -> None:
    """A thread that runs in a copy of the context does not see the value."""
    local, direct_local = pair
    direct_local.value = 1
    found: list[tuple[Any, Any]] = []

    def look() -> None:
        found.append((getattr(local, "value", None), getattr(direct_local, "value", None)))

    thread = threading.Thread(target=contextvars.copy_context().run, args=[look])
    thread.start()
    thread.join()
    assert found[0][0] == found[0][1]


def test_tasks_have_values_of_their_own(pair: tuple[Any, Any]) -> None:
    _, direct_local = pair

    async def put(value: int, turn: asyncio.Barrier) -> int:
        direct_local.value = value
        await turn.wait()
        return direct_local.value

    async def main() -> list[int]:
        turn = asyncio.Barrier(3)
        return await asyncio.gather(*(put(number, turn) for number in range(3)))

    assert asyncio.run(main()) == [0, 1, 2]


def test_another_asgiref_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_module, "Local", lambda: SimpleNamespace(_storage=None))
    local = Local()
    assert direct(local) is local
