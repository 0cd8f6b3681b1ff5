"""Where a signal's receivers run: on the loop if trusted, else in a thread. What a sender gets."""

import asyncio
import contextlib
import gc
import threading
import weakref

import django
import pytest
from asgi import Client
from django.contrib.auth import alogin, login
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.signals import request_finished, request_started
from django.db import connection, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.dispatch import Signal
from django.http import HttpRequest
from hops import count_hops
from testapp.models import Author, Book

from django_aio import cooperative, run
from django_aio.policy import is_cooperative

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


@contextlib.contextmanager
def connected(sent, receiver, **options):
    """The receiver, connected for the length of the block."""
    sent.connect(receiver, **options)
    try:
        yield
    finally:
        assert sent.disconnect(receiver, **{**options, "sender": options.get("sender")})


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


async def test_coroutine_receivers_of_a_model(db):
    seen = []

    async def receive(sender, signal, instance, **kwargs):
        seen.append((signal, instance.pk is None, await Author.objects.acount()))

    with contextlib.ExitStack() as stack:
        for sent in (pre_save, post_save, pre_delete, post_delete):
            stack.enter_context(connected(sent, receive, sender=Author))
        author = await Author.objects.acreate(name="Jane Austen")
        author.born = 1775
        await author.asave()
        await author.adelete()
    assert seen == [
        (pre_save, True, 0),
        (post_save, False, 1),
        (pre_save, False, 1),
        (post_save, False, 1),
        (pre_delete, False, 1),
        (post_delete, False, 0),
    ]


async def test_coroutine_receivers_of_many_to_many_changes(db):
    seen = []

    async def changed(sender, instance, action, pk_set, **kwargs):
        seen.append((action, await instance.readers.acount()))

    author = await Author.objects.acreate(name="Jane Austen")
    book = await Book.objects.acreate(title="Emma", author=author)
    with connected(m2m_changed, changed, sender=Book.readers.through):
        await book.readers.aadd(author)
        await book.readers.aremove(author)
        await book.readers.aset([author])
        await book.readers.aclear()
    assert seen == [
        *[("pre_add", 0), ("post_add", 1)],
        *[("pre_remove", 1), ("post_remove", 0)],
        *[("pre_add", 0), ("post_add", 1)],
        *[("pre_clear", 1), ("post_clear", 0)],
    ]


async def test_coroutine_receivers_of_the_request_signals(db):
    seen = []

    async def started(sender, **kwargs):
        seen.append(("started", await Author.objects.acount()))

    async def finished(sender, **kwargs):
        seen.append(("finished", await Author.objects.acount()))

    await Author.objects.acreate(name="Jane Austen")
    client = Client()
    with connected(request_started, started), connected(request_finished, finished):
        assert (await client.get("/json/")).status == 200
    assert seen == [("started", 1), ("finished", 1)]


@pytest.mark.parametrize("way", ["alogin", "login"])
async def test_coroutine_receivers_of_a_login(way, db):
    seen = []

    async def logged_in(sender, user, **kwargs):
        stored = await User.objects.aget(pk=user.pk)
        seen.append((user.username, stored.last_login == user.last_login))

    user = await User.objects.acreate_user("reader", last_login=None)
    request = HttpRequest()
    request.session = SessionStore()
    with connected(user_logged_in, logged_in):
        if way == "alogin":
            await alogin(request, user)
        else:
            await run(login, request, user)
    assert [name for name, _ in seen] == ["reader"]
    # Django's own receiver, a synchronous one, was called before. (By asend() since Django 6.1.)
    assert seen[0][1] or (way == "alogin" and django.VERSION < (6, 1))
    assert user.last_login is not None


async def test_djangos_own_receivers_need_no_thread(db):
    for sent in (request_started, request_finished, user_logged_in):
        receivers, _ = sent._live_receivers(None)
        assert receivers
        assert all(map(is_cooperative, receivers))
    user = await User.objects.acreate_user("reader")
    request = HttpRequest()
    request.session = SessionStore()
    with count_hops() as hops:
        await alogin(request, user)
    assert [hop for hop in hops if hop not in hops.by_sqlite()] == []


@pytest.mark.parametrize("how", ["error", "set_rollback"])
async def test_what_a_receiver_writes_is_rolled_back_with_its_sender(how, db):
    async def follow(sender, instance, created, **kwargs):
        if instance.name == "first":
            await Author.objects.acreate(name="by the receiver")

    with connected(post_save, follow, sender=Author), contextlib.suppress(ValueError):
        async with transaction.atomic():
            await Author.objects.acreate(name="first")
            assert await Author.objects.acount() == 2
            if how == "error":
                raise ValueError
            transaction.set_rollback(True)
    assert await Author.objects.acount() == 0


async def test_what_a_receiver_writes_is_rolled_back_with_djangos_own_transaction(db):
    """add() of a many-to-many relation opens one itself."""

    async def changed(sender, action, **kwargs):
        await Author.objects.acreate(name=action)
        if action == "post_add":
            raise ValueError("no")

    author = await Author.objects.acreate(name="Jane Austen")
    book = await Book.objects.acreate(title="Emma", author=author)
    with (
        connected(m2m_changed, changed, sender=Book.readers.through),
        pytest.raises(ValueError, match="no"),
    ):
        await book.readers.aadd(author)
    assert await book.readers.acount() == 0
    assert await Author.objects.acount() == 1


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


def test_a_coroutine_receiver_in_plain_code(db):
    """As in Django: it is awaited to its end, in the transaction of the thread that sends."""
    seen = []

    async def saved(sender, instance, **kwargs):
        seen.append((instance.name, await Author.objects.acount()))
        await Author.objects.filter(pk=instance.pk).aupdate(born=1775)

    with connected(post_save, saved, sender=Author), transaction.atomic():
        author = Author.objects.create(name="Jane Austen")
        author.refresh_from_db()
        assert author.born == 1775
        transaction.set_rollback(True)
    assert seen == [("Jane Austen", 1)]
    assert not Author.objects.exists()


async def test_a_coroutine_receiver_of_a_sender_in_a_thread(db):
    """The thread has joined a transaction, and so does the receiver."""
    seen = []

    async def saved(sender, **kwargs):
        seen.append(await Author.objects.acount())

    async with transaction.atomic():
        with connected(post_save, saved, sender=Author):
            await asyncio.to_thread(Author.objects.create, name="Jane Austen")
        transaction.set_rollback(True)
    assert seen == [1]
    assert not await Author.objects.aexists()


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
