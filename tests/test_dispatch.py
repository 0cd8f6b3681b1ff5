"""Where a signal's receivers run: on the loop if trusted, else in a thread. What a sender gets."""

import asyncio
import threading

import pytest
from django.db import connection, transaction
from django.db.models.signals import post_save
from django.dispatch import Signal
from testapp.models import Author

from django_aio import cooperative, run

signal = Signal()
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
    signal.receivers.clear()
    signal.sender_receivers_cache.clear()


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


async def test_coroutine_receivers_of_a_bridged_sender_run_at_the_same_time():
    both = asyncio.Barrier(2)

    async def first(sender, **kwargs):
        await both.wait()
        return 1

    async def second(sender, **kwargs):
        await both.wait()
        return 2

    signal.connect(first)
    signal.connect(second)
    assert sorted(answer for _, answer in await run(signal.send, None)) == [1, 2]


async def test_a_receiver_in_a_thread_sees_the_transaction_of_its_sender(db):
    seen = []

    def saved(sender, instance, **kwargs):
        assert threading.current_thread() is not threading.main_thread()
        assert connection.in_atomic_block
        seen.append(Author.objects.count())

    post_save.connect(saved, sender=Author)
    try:
        async with transaction.atomic():
            await Author.objects.acreate(name="new")
    finally:
        post_save.disconnect(saved, sender=Author)
    assert seen == [1]
