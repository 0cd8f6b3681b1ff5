"""Coroutine receivers of Django's own signals: of models, requests and logins."""

import asyncio
import contextlib
import threading

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
from django.http import HttpRequest
from hops import count_hops
from testapp.models import Author, Book

from django_aio import run
from django_aio.policy import is_cooperative


@contextlib.contextmanager
def connected(sent, receiver, **options):
    """The receiver, connected for the length of the block."""
    sent.connect(receiver, **options)
    try:
        yield
    finally:
        assert sent.disconnect(receiver, **{**options, "sender": options.get("sender")})


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
