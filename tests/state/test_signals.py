"""Signals: each kind of receiver."""

import pytest
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.dispatch import Signal
from testapp.models import Author, Book

from django_aio import cooperative

from .tables import (
    assert_same,
    documented,
    hops_of,
    new_author,
    nothing,
    stored_author,
)

# Signals: each kind of receiver.

signal = Signal()


async def receive(sender, **kwargs):
    return await Author.objects.acount()


async def receive_too(sender, **kwargs):
    return await Author.objects.acount()


@cooperative
def receive_on_the_loop(sender, **kwargs):
    return Author.objects.count()


def receive_in_a_thread(sender, **kwargs):
    return Author.objects.count()


def receive_in_a_thread_too(sender, **kwargs):
    return Author.objects.count()


def sending(name, twin):
    async def awaited():
        return await getattr(signal, twin)(None)

    return lambda: getattr(signal, name)(None), awaited


def method_pair(make, name, *arguments):
    """A method, with its twin, of what `make()` returns: made before, and not counted."""
    made = []

    def prepare():
        made.append(make())

    async def awaited():
        await getattr(made[-1], f"a{name}")(*arguments)

    return prepare, (lambda: getattr(made[-1], name)(*arguments), awaited)


def readers():
    book = Book(title="Emma", author=stored_author())
    Book.objects.bulk_create([book])
    return book.readers


SEND = (nothing, sending("send", "asend"))
SEND_ROBUST = (nothing, sending("send_robust", "asend_robust"))
SAVE = method_pair(new_author, "save")
DELETE = method_pair(stored_author, "delete")
ADD = method_pair(readers, "add")
SIGNALS = {
    "`send()`, `asend()`: a coroutine function": (SEND, signal, [receive]),
    "`send()`, `asend()`: two coroutine functions": (SEND, signal, [receive, receive_too]),
    "`send()`, `asend()`: a function on the list": (SEND, signal, [receive_on_the_loop]),
    "`send()`, `asend()`: a function that is not": (SEND, signal, [receive_in_a_thread]),
    "`send()`, `asend()`: two functions that are not": (
        SEND,
        signal,
        [receive_in_a_thread, receive_in_a_thread_too],
    ),
    "`send_robust()`, `asend_robust()`: one of each": (
        SEND_ROBUST,
        signal,
        [receive, receive_on_the_loop, receive_in_a_thread],
    ),
    "`save()`, `asave()`: a coroutine function": (SAVE, post_save, [receive]),
    "`save()`, `asave()`: a function on the list": (SAVE, post_save, [receive_on_the_loop]),
    "`save()`, `asave()`: a function that is not": (SAVE, post_save, [receive_in_a_thread]),
    "`delete()`, `adelete()`: a coroutine function": (DELETE, post_delete, [receive]),
    "`add()`, `aadd()` of many-to-many: a coroutine function": (ADD, m2m_changed, [receive]),
}


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_signals(colour):
    expected = {name: row[colour] for name, row in documented("hops-signals").items()}
    assert list(expected) == list(SIGNALS)
    found = {}
    for name, ((prepare, calls), sent, receivers) in SIGNALS.items():
        for each in receivers:
            sent.connect(each)
        try:
            found[name] = await hops_of(prepare, calls[colour])
        finally:
            for each in receivers:
                assert sent.disconnect(each)
    assert_same(expected, found)
