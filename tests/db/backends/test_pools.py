"""Connections at hand: from lease to lease, to who has waited longest, and back to psycopg_pool."""

import asyncio
import contextvars
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import all_returned, bridge_pool, out_of_the_pool, postgresql_only
from django.contrib.postgres.signals import register_type_handlers
from django.db import OperationalError, ProgrammingError, connection, connections, transaction
from django.db.backends.signals import connection_created
from psycopg import IsolationLevel
from testapp.models import Author

from django_aio import hold_connection, loops, run, wait
from django_aio.db.backends.postgresql import pool as pools

pytestmark = [pytest.mark.usefixtures("pooled"), postgresql_only]


def in_a_chain_of_its_own(function):
    """`run(function)` in a task of its own."""
    return asyncio.create_task(run(function))


def served_by(meet=None):
    """Run a statement of the ORM, after `meet()`. Returns the physical connection that ran it."""
    used = []

    def look(execute, *args):
        used.append(connection.connection)
        if meet is not None:
            wait(meet())
        return execute(*args)

    with connection.execute_wrapper(look):
        Author.objects.first()
    return used[0]


@pytest.fixture
def leases_of_the_pool(pooled):
    """How many leases psycopg_pool has given."""

    def count():
        return bridge_pool().pool.get_stats()["requests_num"]

    return count


async def test_what_comes_back_stays_at_hand_for_the_next_chain(leases_of_the_pool):
    first = await in_a_chain_of_its_own(served_by)
    before = leases_of_the_pool()
    for _ in range(3):
        assert not await out_of_the_pool()
        assert await in_a_chain_of_its_own(served_by) is first
        async with transaction.atomic():
            assert connection.connection is first
    assert leases_of_the_pool() == before


async def two_at_hand():
    """Leave two connections at hand."""
    meet = asyncio.Barrier(2).wait
    tasks = [asyncio.create_task(run(served_by, meet)) for _ in range(2)]
    both = await asyncio.gather(*tasks)
    assert set(bridge_pool()._at_hand) == set(both)
    return both


async def test_after_an_error_the_next_chain_connects_anew():
    def fail():
        with pytest.raises(ProgrammingError):
            Author.objects.extra(where=["nonsense"]).first()
        assert connection.errors_occurred
        return connections["default"]

    def look():
        served_by()
        return connections["default"], connection.errors_occurred

    await two_at_hand()
    wrapper = await in_a_chain_of_its_own(fail)
    assert await in_a_chain_of_its_own(look) == (wrapper, False)


@pytest.fixture
def one(pooled, monkeypatch):
    """A pool of one connection."""
    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": 20, "max_waiting": 3}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)


class Holder:
    """A chain that has the one connection for a statement, until it is told to go on."""

    def __init__(self):
        self.holding, self.go_on = asyncio.Event(), asyncio.Event()

    async def __aenter__(self):
        self.task = asyncio.create_task(run(served_by, self._hold))
        await self.holding.wait()
        return self

    async def _hold(self):
        self.holding.set()
        await self.go_on.wait()

    async def __aexit__(self, *exc):
        self.go_on.set()
        await self.task


async def waiting(count):
    """Let the loop go on until `count` tasks wait for a connection."""
    async with asyncio.timeout(20):
        while bridge_pool().waiting != count:  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0)


@pytest.mark.usefixtures("one")
async def test_who_waits_is_given_what_comes_back_in_turn(leases_of_the_pool):
    order = []

    def work(number):
        face = served_by()
        order.append(number)
        return face

    async with Holder() as holder:
        tasks = []
        for number in range(3):
            tasks.append(asyncio.create_task(run(work, number)))
            await waiting(number + 1)
        before = leases_of_the_pool()
    assert set(await asyncio.gather(*tasks)) == {await holder.task}
    assert order == [0, 1, 2]
    assert leases_of_the_pool() == before
    assert await in_a_chain_of_its_own(served_by) is await holder.task


@pytest.mark.usefixtures("one")
async def test_no_more_wait_than_may():
    async with Holder():
        tasks = [asyncio.create_task(run(served_by)) for _ in range(3)]
        await waiting(3)
        with pytest.raises(OperationalError, match="already 3 requests waiting"):
            await Author.objects.afirst()
    await asyncio.gather(*tasks)


@pytest.mark.usefixtures("one")
async def test_who_was_cancelled_while_it_waited_is_given_nothing():
    async with Holder() as holder:
        leaving, staying = (asyncio.create_task(run(served_by)) for _ in range(2))
        await waiting(2)
        leaving.cancel()
        await waiting(1)
    assert await staying is await holder.task
    assert leaving.cancelled()
    assert not await out_of_the_pool()


@pytest.fixture
def hand_over(one):
    """Have something done before, or after, a connection is handed over, in the same step."""

    def act(before=lambda: None, after=lambda: None):
        bridge = bridge_pool()
        original = bridge._hand_over

        def _hand_over(face):
            bridge._hand_over = original
            before()
            found = original(face)
            after()
            return found

        bridge._hand_over = _hand_over

    return act


@pytest.mark.parametrize("others", [0, 1])
async def test_who_is_cancelled_when_it_has_been_given_one_passes_it_on(others, hand_over):
    async with Holder() as holder:
        leaving = asyncio.create_task(run(served_by))
        await waiting(1)
        given = bridge_pool()._waiters[0]
        staying = [asyncio.create_task(run(served_by)) for _ in range(others)]
        await waiting(1 + others)
        hand_over(after=leaving.cancel)
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert given.result() is await holder.task
    for task in [*staying, in_a_chain_of_its_own(served_by)]:
        assert await task is await holder.task
    assert not await out_of_the_pool()


async def test_whose_time_has_just_run_out_is_given_nothing(hand_over):
    async with Holder() as holder:
        leaving, staying = (asyncio.create_task(run(served_by)) for _ in range(2))
        await waiting(2)
        first = bridge_pool()._waiters[0]
        hand_over(before=lambda: pools._expire(first, 20))
    with pytest.raises(OperationalError, match=r"after 20.00 sec.*Held by"):
        await leaving
    assert await staying is await holder.task
    assert not await out_of_the_pool()


@pytest.mark.usefixtures("one")
async def test_who_waits_is_given_one_that_the_pool_must_see_first(monkeypatch):
    async with Holder() as holder:
        task = asyncio.create_task(run(served_by))
        await waiting(1)
        monkeypatch.setattr(pools, "MAX_AT_HAND", 0)
    assert await task is await holder.task


@pytest.mark.usefixtures("one")
async def test_who_waits_is_given_a_new_one_for_one_that_broke():
    def end():
        with connection.cursor() as cursor, pytest.raises(OperationalError):
            holding.set()
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        wait(waiting(1))

    holding = asyncio.Event()
    ending = asyncio.create_task(run(end))
    await holding.wait()
    face = await in_a_chain_of_its_own(served_by)
    assert not face.closed
    await ending


async def test_a_pool_that_waits_for_nothing_says_so_at_once(monkeypatch):
    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": 0}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    async with asyncio.timeout(20):
        with pytest.raises(OperationalError, match=r"after 0\.00 sec"):
            await Author.objects.afirst()
        await bridge_pool().pool.wait()  # the loop does not end while its pool is opening


@pytest.mark.usefixtures("one")
async def test_who_waits_hears_that_the_pool_is_closed():
    async with Holder():
        task = asyncio.create_task(run(served_by))
        await waiting(1)
        await bridge_pool().aclose()
        with pytest.raises(OperationalError, match="closed"):
            await task


@pytest.mark.parametrize("option", ["check", "reset"])
async def test_a_pool_that_looks_at_every_lease_does_so(option, monkeypatch, leases_of_the_pool):
    looked = asyncio.Queue()
    options = {"pool": {"max_size": 4, option: looked.put_nowait}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    for number in range(1, 4):
        await in_a_chain_of_its_own(served_by)
        await all_returned()
        assert leases_of_the_pool() == number
    async with asyncio.timeout(20):
        for _ in range(3):
            await looked.get()


async def test_health_checks_look_at_every_lease(monkeypatch, leases_of_the_pool):
    monkeypatch.setitem(connections.settings["default"], "CONN_HEALTH_CHECKS", True)
    for number in range(1, 4):
        await in_a_chain_of_its_own(served_by)
        assert leases_of_the_pool() == number


async def test_the_pool_sees_a_busy_connection_again(monkeypatch, leases_of_the_pool):
    monkeypatch.setattr(pools, "MAX_AT_HAND", 0)
    for number in range(1, 4):
        await in_a_chain_of_its_own(served_by)
        assert leases_of_the_pool() == number


async def test_the_pool_gets_what_nobody_uses():
    """The pool can close it then. A younger one stays, and is looked at later."""
    first, second = await two_at_hand()
    assert first is not second
    at_hand = bridge_pool()._at_hand
    first.lent_at -= pools.MAX_AT_HAND
    bridge_pool()._tidy()
    assert list(at_hand) == [second]
    await all_returned()
    assert first.twin in bridge_pool().pool._pool
    again = bridge_pool()._tidying
    assert not again.cancelled()
    second.lent_at -= pools.MAX_AT_HAND
    bridge_pool()._tidy()
    assert not at_hand
    assert bridge_pool()._tidying is None


async def test_what_is_at_hand_is_closed_with_the_pool():
    face = await in_a_chain_of_its_own(served_by)
    bridge = bridge_pool()
    await loops.close_store()
    assert face.closed
    assert bridge._tidying.cancelled()
    assert await in_a_chain_of_its_own(served_by) is not face


def test_what_is_at_hand_is_closed_with_its_loop():
    face = asyncio.run(run(served_by))
    assert face.closed


async def test_a_receiver_hears_of_the_connection_of_every_chain():
    heard = []

    def receiver(connection, **kwargs):
        heard.append(connection.connection)

    connection_created.connect(receiver)
    try:
        await in_a_chain_of_its_own(served_by)
        heard.clear()
        faces = [await in_a_chain_of_its_own(served_by) for _ in range(3)]
    finally:
        connection_created.disconnect(receiver)
    assert heard == faces
    assert await in_a_chain_of_its_own(served_by) in faces
    assert len(heard) == 3


async def test_djangos_own_receivers_hear_of_a_physical_connection_once(leases_of_the_pool):
    connection_created.connect(register_type_handlers)
    try:
        await in_a_chain_of_its_own(served_by)
        before = leases_of_the_pool()  # the first time they ask the server for its types
        for _ in range(3):
            await in_a_chain_of_its_own(served_by)
    finally:
        connection_created.disconnect(register_type_handlers)
    assert leases_of_the_pool() <= before + 1


async def test_the_next_chain_commits_whatever_was_set_on_a_connection_by_hand():
    async def set_by_hand():
        async with hold_connection() as wrapper:
            wrapper.connection.autocommit = False

    await asyncio.create_task(set_by_hand())
    await all_returned()
    await asyncio.create_task(Author.objects.acreate(name="a"))
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(Author.objects.count).result(20) == 1
        threads.submit(connections.close_all).result(20)


async def test_the_next_chain_has_the_isolation_level_of_the_settings(monkeypatch):
    serializable, any_level = IsolationLevel.SERIALIZABLE, IsolationLevel.READ_UNCOMMITTED
    options = {"pool": {"min_size": 1, "max_size": 1}, "isolation_level": serializable}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)

    async def set_by_hand():
        async with hold_connection() as wrapper:
            assert wrapper.connection.isolation_level is serializable
            wrapper.connection.isolation_level = any_level

    def level():
        return served_by().isolation_level

    await asyncio.create_task(set_by_hand())
    await all_returned()
    assert await in_a_chain_of_its_own(level) is serializable


async def test_who_closed_a_connection_in_a_transaction_connects_anew():
    def close():
        with transaction.atomic():
            connection.close()
        return connections["default"]

    def look():
        served_by()
        return connections["default"], connection.closed_in_transaction

    await two_at_hand()
    wrapper = await in_a_chain_of_its_own(close)
    assert bridge_pool()._at_hand
    assert await in_a_chain_of_its_own(look) == (wrapper, False)


async def test_a_mode_that_a_chain_set_is_its_own(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "AUTOCOMMIT", False)

    def set_it():
        Author.objects.first()
        connection.rollback()
        connection.set_autocommit(True)
        Author.objects.first()

    def look():
        served_by()
        return connection.autocommit

    await in_a_chain_of_its_own(set_it)
    assert bridge_pool()._at_hand
    assert not await in_a_chain_of_its_own(look)


async def test_without_autocommit_every_chain_connects(monkeypatch, leases_of_the_pool):
    monkeypatch.setitem(connections.settings["default"], "AUTOCOMMIT", False)
    for number in range(1, 4):
        await in_a_chain_of_its_own(served_by)
        assert leases_of_the_pool() == number


def test_what_is_being_made_when_the_loop_ends_is_closed(monkeypatch):
    """A worker of the pool prepares a connection of which nobody knows yet."""
    made = []

    def prepare(self, face):
        made.append(face)
        reached.set()
        wait(asyncio.Event().wait())

    async def work():
        nonlocal reached
        reached = asyncio.Event()
        asking = asyncio.create_task(Author.objects.acount())
        await reached.wait()
        return asking

    reached = None
    monkeypatch.setattr(type(connections["default"]), "_configure_connection", prepare)
    assert asyncio.run(work()).cancelled()
    assert made
    assert all(face.closed for face in made)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Task.get_context() is new in Python 3.12")
async def test_the_tasks_of_a_pool_know_nothing_of_the_request_that_came_first():
    of_a_request = contextvars.ContextVar("of_a_request")
    of_a_request.set("secret")
    await in_a_chain_of_its_own(served_by)
    for worker in bridge_pool().pool._workers:
        assert of_a_request not in worker.get_context()
