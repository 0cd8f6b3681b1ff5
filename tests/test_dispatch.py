"""Where a signal's receivers run: on the loop if trusted, else in a thread. What a sender gets."""

import asyncio
import gc
import threading
import weakref

import pytest
from django.db import connection, transaction
from django.dispatch import Signal
from testapp.models import Author

from django_aio import cooperative, run

signal = Signal()
cached = Signal(use_caching=True)
threads: list[threading.Thread] = []


def receiver(sender, **kwargs):
    threads.append(threading.current_thread())
    return "answer"


class Receivers:
    def method(self, sender, **kwargs):
        raise ValueError("no")


@pytest.fixture(autouse=True)
def _connected():
    threads.clear()
    yield
    for each in (signal, cached):
        each.receivers.clear()
        each.sender_receivers_cache.clear()


async def send_from_bridge(sent, sender, **named):
    return await run(sent.send, sender, **named)


async def send_robust_from_bridge(sent, sender, **named):
    return await run(sent.send_robust, sender, **named)


BOTH_WAYS = pytest.mark.parametrize("send", [send_from_bridge, Signal.asend], ids=["send", "asend"])
BOTH_ROBUST = pytest.mark.parametrize(
    "send", [send_robust_from_bridge, Signal.asend_robust], ids=["send_robust", "asend_robust"]
)
EVERY_WAY = pytest.mark.parametrize(
    "send",
    [send_from_bridge, Signal.asend, send_robust_from_bridge, Signal.asend_robust],
    ids=["send", "asend", "send_robust", "asend_robust"],
)


async def test_a_receiver_that_nobody_trusts_runs_in_a_thread():
    signal.connect(receiver)
    assert await run(signal.send, None) == [(receiver, "answer")]
    assert await signal.asend(None) == [(receiver, "answer")]
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_a_trusted_receiver_runs_on_the_loop():
    trusted = cooperative(lambda sender, **kwargs: receiver(sender))
    signal.connect(trusted)
    assert await run(signal.send, None) == [(trusted, "answer")]
    assert await signal.asend_robust(None) == [(trusted, "answer")]
    assert threads == [threading.main_thread()] * 2


async def test_a_signal_sent_by_a_coroutine_itself_is_received_there():
    signal.connect(receiver)
    assert signal.send(None) == [(receiver, "answer")]
    assert threads == [threading.main_thread()]


def test_without_a_loop_nothing_changes():
    signal.connect(receiver)
    ((found, answer),) = signal.send(None)
    assert found is receiver
    assert answer == "answer"


async def test_the_error_of_a_receiver_in_a_thread(caplog):
    receivers = Receivers()
    signal.connect(receivers.method)
    with pytest.raises(ValueError, match="no"):
        await run(signal.send, None)
    ((found, error),) = await run(signal.send_robust, None)
    assert found == receivers.method
    assert isinstance(error, ValueError)
    assert "Receivers.method" in caplog.text


@EVERY_WAY
async def test_coroutine_receivers_run_at_the_same_time(send):
    both = asyncio.Barrier(2)

    async def first(sender, **kwargs):
        await both.wait()
        return 1

    async def second(sender, **kwargs):
        await both.wait()
        return 2

    signal.connect(first)
    signal.connect(second)
    async with asyncio.timeout(10):
        assert await send(signal, None) == [(first, 1), (second, 2)]


@EVERY_WAY
async def test_the_order_of_the_answers(send):
    """Synchronous receivers as they were connected, then the coroutine functions."""

    async def coroutine(sender, **kwargs):
        return "coroutine"

    trusted = cooperative(lambda sender, **kwargs: "trusted")
    signal.connect(coroutine)
    signal.connect(receiver)
    signal.connect(trusted)
    assert await send(signal, None) == [
        (receiver, "answer"),
        (trusted, "trusted"),
        (coroutine, "coroutine"),
    ]


@EVERY_WAY
async def test_synchronous_receivers_run_in_order(send):
    seen = []
    receivers = [
        lambda sender, **kwargs: seen.append("first, in a thread"),
        cooperative(lambda sender, **kwargs: seen.append("second, on the loop")),
        lambda sender, **kwargs: seen.append("third, in a thread"),
    ]
    for each in receivers:
        signal.connect(each)
    await send(signal, None)
    assert seen == ["first, in a thread", "second, on the loop", "third, in a thread"]


@BOTH_ROBUST
async def test_robust_sending_collects_the_errors(send, caplog):
    async def fails(sender, **kwargs):
        raise ValueError("coroutine")

    async def answers(sender, **kwargs):
        return "answer"

    def fails_in_a_thread(sender, **kwargs):
        raise ValueError("thread")

    @cooperative
    def fails_on_the_loop(sender, **kwargs):
        raise ValueError("loop")

    receivers = [fails_in_a_thread, fails_on_the_loop, receiver, fails, answers]
    for each in receivers:
        signal.connect(each)
    found, responses = zip(*await send(signal, None), strict=True)
    assert list(found) == receivers
    assert list(map(str, responses)) == ["thread", "loop", "answer", "coroutine", "answer"]
    records = [record for record in caplog.records if record.name == "django.dispatch"]
    assert len(records) == 3
    assert all(isinstance(record.exc_info[1], ValueError) for record in records)
    # Before 6.1 asend_robust() calls the coroutine functions while a thread runs the others.
    assert {record.getMessage().split()[2] for record in records} == {
        each.__qualname__ for each in (fails_in_a_thread, fails_on_the_loop, fails)
    }


@BOTH_WAYS
async def test_the_error_of_a_coroutine_receiver(send):
    async def fails(sender, **kwargs):
        raise ValueError("coroutine")

    signal.connect(fails)
    with pytest.raises(ValueError, match="coroutine"):
        await send(signal, None)


@BOTH_WAYS
async def test_an_error_ends_the_sending(send):
    """What Django documents of `send()`: receivers after the one that raised are not called."""

    def fails(sender, **kwargs):
        raise ValueError("first")

    async def coroutine(sender, **kwargs):
        raise AssertionError

    signal.connect(fails)
    signal.connect(receiver)
    with pytest.raises(ValueError, match="first"):
        await send(signal, None)
    assert threads == []


@EVERY_WAY
async def test_who_is_cancelled_cancels_the_receivers(send):
    waiting, cancelled = asyncio.Event(), asyncio.Event()

    async def waits(sender, **kwargs):
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def waits_too(sender, **kwargs):
        await asyncio.Event().wait()

    signal.connect(waits)
    signal.connect(waits_too)
    task = asyncio.create_task(send(signal, None))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


@EVERY_WAY
async def test_receivers_are_held_weakly(send):
    class Holder:
        def receive(self, sender, **kwargs):
            return "answer"

        async def areceive(self, sender, **kwargs):
            return "answer"

    holder = Holder()
    signal.connect(holder.receive)
    signal.connect(holder.areceive)
    assert len(await send(signal, None)) == 2
    gone = weakref.ref(holder)
    del holder
    await asyncio.sleep(0)  # the tasks that received are gone as well
    gc.collect()
    assert gone() is None
    assert await send(signal, None) == []


@EVERY_WAY
async def test_a_signal_that_caches_its_receivers(send):
    class Sender:
        pass

    async def coroutine(sender, **kwargs):
        return "coroutine"

    cached.connect(receiver)
    cached.connect(coroutine, sender=Sender)
    for _ in range(2):  # the second time from the cache
        assert await send(cached, Sender) == [(receiver, "answer"), (coroutine, "coroutine")]
        assert await send(cached, Signal) == [(receiver, "answer")]
    assert threading.main_thread() not in threads
    # What is cached are Django's references: plain code is not sent to a thread.
    assert cached.send(Signal) == [(receiver, "answer")]
    assert threads.pop() is threading.main_thread()
    cached.disconnect(receiver)
    assert await send(cached, Signal) == []
    assert await send(cached, Sender) == [(coroutine, "coroutine")]


@EVERY_WAY
async def test_savepoints_of_receivers_that_run_at_the_same_time(send, db):
    """Inside the sender's transaction they take turns: each rolls back its own only."""
    both = asyncio.Barrier(2)

    async def keeps(sender, **kwargs):
        await both.wait()
        async with transaction.atomic():
            await Author.objects.acreate(name="kept")

    async def drops(sender, **kwargs):
        await both.wait()
        async with transaction.atomic():
            await Author.objects.acreate(name="dropped")
            transaction.set_rollback(True)

    signal.connect(drops)
    signal.connect(keeps)
    async with transaction.atomic():
        await send(signal, None)
        await Author.objects.acreate(name="after")
    found = [name async for name in Author.objects.order_by("name").values_list("name", flat=True)]
    assert found == ["after", "kept"]


@EVERY_WAY
async def test_receivers_do_not_join_each_others_transactions(send, db):
    """Outside of a transaction of the sender. (Since Django 6.1 they share a context.)"""
    opened, looked = asyncio.Event(), asyncio.Event()

    async def opens(sender, **kwargs):
        async with transaction.atomic():
            await Author.objects.acreate(name="rolled back")
            opened.set()
            await looked.wait()
            transaction.set_rollback(True)
        return connection.in_atomic_block

    async def looks(sender, **kwargs):
        await opened.wait()
        try:
            return connection.in_atomic_block, await Author.objects.acount()
        finally:
            looked.set()

    signal.connect(opens)
    signal.connect(looks)
    assert await send(signal, None) == [(opens, False), (looks, (False, 0))]
    assert not connection.in_atomic_block


@EVERY_WAY
async def test_a_receiver_whose_sibling_has_opened_a_transaction_is_cancelled(send, db):
    opened, cleaned = asyncio.Event(), asyncio.Event()

    async def opens(sender, **kwargs):
        try:
            async with transaction.atomic():
                await Author.objects.acreate(name="rolled back")
                opened.set()
                await asyncio.Event().wait()
        finally:
            cleaned.set()

    async def idles(sender, **kwargs):
        await asyncio.Event().wait()

    signal.connect(opens)
    signal.connect(idles)
    task = asyncio.create_task(send(signal, None))
    await opened.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Before Django 6.1 the sender does not wait for all of them.
    async with asyncio.timeout(10):
        await cleaned.wait()
    assert not await Author.objects.aexists()
