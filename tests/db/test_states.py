"""What is asked of a transaction's state is meant for the block of who asks.

Django keeps the state of the innermost block. That may be a sibling's savepoint, or the block of a
generator that was left and is being closed.
"""

import asyncio

import pytest
from asgiref.sync import async_to_sync
from conftest import postgresql_only
from db.endings import in_block, in_new_context, names
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from testapp.models import Author

from django_aio import run

pytestmark = pytest.mark.usefixtures("db")


# Whether the loop's generators were watched before the one that is left.
either_way = pytest.mark.parametrize("known", [True, False])


async def left_generator(known=True):
    if known:
        await asyncio.create_task(Author.objects.aexists())
    async for _ in in_block("generator"):
        break


async def beside_a_savepoint(act, *, fails, by_sibling):
    """Call `act()` in a task while another task is in its savepoint."""
    inside, acted, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def child():
        try:
            async with transaction.atomic():
                await Author.objects.acreate(name="child")
                inside.set()
                await acted.wait()
                if fails:
                    raise LookupError
        except LookupError:
            pass

    async def sibling():
        await Author.objects.acreate(name="sibling")
        ready.set()
        await inside.wait()
        result = act()
        acted.set()
        if result is not None:
            await result

    async with transaction.atomic():
        await Author.objects.acreate(name="parent")
        async with asyncio.TaskGroup() as group:
            if by_sibling:
                group.create_task(sibling())
                await ready.wait()
            group.create_task(child())
            if not by_sibling:
                await sibling()


ON_COMMITS = {
    "coroutine": lambda func: transaction.on_commit(func),
    "awaited": lambda func: transaction.aon_commit(func),
    "bridge": lambda func: run(transaction.on_commit, func),
    "thread": lambda func: asyncio.to_thread(transaction.on_commit, func),
}


@pytest.mark.parametrize("how", ON_COMMITS)
@pytest.mark.parametrize("by_sibling", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_hook_is_that_of_its_own_block(how, by_sibling, fails):
    """It runs when that block has committed, though a sibling's savepoint was rolled back."""
    called = []
    await in_new_context(
        beside_a_savepoint(
            lambda: ON_COMMITS[how](lambda: called.append(1)), fails=fails, by_sibling=by_sibling
        )
    )
    assert called == [1]
    assert "sibling" in await names()


async def test_a_hook_of_a_savepoint_that_fails_does_not_run():
    called = []

    async def child():
        try:
            async with transaction.atomic():
                transaction.on_commit(lambda: called.append(1))
                raise LookupError
        except LookupError:
            pass

    async with transaction.atomic():
        await asyncio.create_task(child())
    assert called == []


@pytest.mark.parametrize("by_sibling", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_set_rollback_of_the_outer_block(by_sibling, fails):
    def act():
        transaction.set_rollback(True)
        assert transaction.get_rollback()

    await in_new_context(beside_a_savepoint(act, fails=fails, by_sibling=by_sibling))
    assert await names() == []


BAD = {
    "save": lambda: Author(name="bad", born="no number").asave(),
    "create": lambda: Author.objects.acreate(name="bad", born="no number"),
    "update": lambda: Author.objects.filter(name="parent").aupdate(born="no number"),
    "bridge": lambda: run(Author(name="bad", born="no number").save),
    "thread": lambda: asyncio.to_thread(Author(name="bad", born="no number").save),
}


@pytest.mark.parametrize("how", BAD)
async def test_an_error_before_any_statement_breaks_its_own_block(how):
    """As in Django that block can only be rolled back; the sibling's savepoint is whole until then.

    Django marks the innermost block, which is the sibling's.
    """
    broken = []

    async def bad():
        with pytest.raises(ValueError, match="no number"):
            await BAD[how]()
        broken.append(transaction.get_rollback())

    async def act_and_wait():
        await bad()
        with pytest.raises(TransactionManagementError):
            await Author.objects.acreate(name="after")

    await in_new_context(beside_a_savepoint(act_and_wait, fails=False, by_sibling=False))
    assert broken == [True]
    assert await names() == []


async def hook_after(register):
    called = []
    await register(lambda: called.append(1))
    await Author.objects.acreate(name="after")
    return called


async def on_commit(func):
    transaction.on_commit(func)


REGISTERS = {
    "coroutine": on_commit,
    "awaited": transaction.aon_commit,
    "bridge": lambda func: run(transaction.on_commit, func),
}


@either_way
@pytest.mark.parametrize("how", REGISTERS)
async def test_a_hook_after_a_generator_that_was_left(how, known):
    """It is that of the block round the generator."""
    if not known and how == "coroutine":
        pytest.skip("nobody can know: see the limits")
    async with transaction.atomic():
        await left_generator(known)
        called = await hook_after(REGISTERS[how])
    assert called == [1]
    assert await names() == ["after"]


@either_way
@pytest.mark.parametrize("how", ["awaited", "bridge"])
async def test_a_hook_outside_of_any_block_after_a_generator_that_was_left(how, known):
    """It runs at once, as outside of any transaction."""
    await left_generator(known)
    assert await hook_after(REGISTERS[how]) == [1]
    assert await names() == ["after"]


async def test_a_hook_that_cannot_wait_for_a_generator_that_was_left():
    """It would be lost with the generator's block."""
    await left_generator()
    with pytest.raises(SynchronousOnlyOperation, match="aon_commit"):
        transaction.on_commit(list)


async def test_set_rollback_after_a_generator_that_was_left():
    async with transaction.atomic():
        await Author.objects.acreate(name="before")
        await left_generator()
        transaction.set_rollback(True)
    assert await names() == []


def state():
    return connection.in_atomic_block, transaction.get_autocommit()


def read_in_chunks():
    return [author.name for author in Author.objects.iterator(chunk_size=1)]


def write_by_hand():
    transaction.set_autocommit(False)
    Author.objects.create(name="by hand")
    transaction.commit()
    transaction.set_autocommit(True)
    return names_now()


def write_at_a_savepoint():
    begin = getattr(transaction, "savepoint_create", None) or transaction.savepoint
    sid = begin()
    Author.objects.create(name="at a savepoint")
    if sid:
        transaction.savepoint_commit(sid)
    return names_now()


def names_now():
    return list(Author.objects.values_list("name", flat=True))


@either_way
@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (state, (False, True)),
        (read_in_chunks, []),
        (write_by_hand, ["by hand"]),
        (write_at_a_savepoint, ["at a savepoint"]),
    ],
)
async def test_synchronous_code_after_a_generator_that_was_left(func, expected, known):
    """It is outside of any transaction, as after `async with`."""
    await left_generator(known)
    assert await run(func) == expected


@either_way
@postgresql_only
async def test_rows_cannot_be_locked_after_a_generator_that_was_left(known):
    """Nor outside of any block: the lock would end with the statement."""
    await left_generator(known)
    with pytest.raises(TransactionManagementError, match="select_for_update"):
        await Author.objects.select_for_update().afirst()


def test_a_generator_that_is_left_inside_a_block_of_a_thread():
    """As in Django's TestCase: its savepoint is rolled back, and the coroutine goes on."""

    async def leave_and_write():
        await left_generator(known=False)
        await Author.objects.acreate(name="after")

    with transaction.atomic():
        async_to_sync(leave_and_write)()
    assert names_now() == ["after"]
