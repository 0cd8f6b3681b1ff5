"""The hooks of on_commit(): the transaction has ended for them and for what they start."""

import asyncio

import pytest
from conftest import out_of_the_pool
from db.endings import names
from django.db import connection, transaction
from testapp.models import Author

pytestmark = pytest.mark.usefixtures("db")


async def test_a_hook_that_gathers_is_outside():
    async def hook():
        await asyncio.gather(
            *(Author.objects.acreate(name=f"hook {number}") for number in range(2))
        )

    async with transaction.atomic():
        await Author.objects.acreate(name="first")
        transaction.on_commit(hook)
    assert await names() == ["first", "hook 0", "hook 1"]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_hook_that_raises_leaves_the_chain_usable(error):
    async def hook():
        raise error

    with pytest.raises(error):
        async with transaction.atomic():
            await Author.objects.acreate(name="first")
            transaction.on_commit(hook)
    assert not connection.in_atomic_block
    await Author.objects.acreate(name="second")
    assert await names() == ["first", "second"]


async def test_a_hook_can_be_cancelled():
    entered = asyncio.Event()

    async def hook():
        entered.set()
        await asyncio.Event().wait()

    async def block():
        async with transaction.atomic():
            await Author.objects.acreate(name="first")
            transaction.on_commit(hook)

    task = asyncio.create_task(block())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names() == ["first"]


@pytest.mark.usefixtures("pooled")
async def test_a_hook_has_given_the_connection_back():
    async def hook():
        assert await out_of_the_pool() == set()

    async with transaction.atomic():
        await Author.objects.acreate(name="first")
        transaction.on_commit(hook)
