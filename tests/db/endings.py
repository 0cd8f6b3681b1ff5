"""What the tests of endings share: rows, generators that hold a block, threads that write."""

import asyncio
import contextvars
import threading

from django.db import transaction
from testapp.models import Author


async def names():
    """What is committed, as another task sees it."""
    found = Author.objects.order_by("name").values_list("name", flat=True)
    return await asyncio.create_task(as_list(found), context=contextvars.Context())


async def as_list(found):
    return [each async for each in found]


async def in_block(*wanted):
    async with transaction.atomic():
        for name in wanted:
            await Author.objects.acreate(name=name)
            yield name


class Node:
    """Something in a cycle."""


def in_a_cycle(thing):
    node = Node()
    node.me, node.thing = node, thing


async def rows(number=10):
    """Rows to be read a few at a time."""
    await Author.objects.abulk_create([Author(name=f"{n:02}") for n in range(number)])


def in_new_context(coroutine):
    return asyncio.create_task(coroutine, context=contextvars.Context())


class Work:
    """Writes twice in a thread, with a stop between; says what became of it."""

    def __init__(self, *, nested=False):
        self.nested = nested
        self.written, self.go_on, self.ended = (threading.Event() for _ in range(3))
        self.error = None

    def __call__(self):
        try:
            if self.nested:
                with transaction.atomic():
                    self.write()
            else:
                self.write()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    def write(self):
        Author.objects.create(name="thread 1")
        self.written.set()
        assert self.go_on.wait(20)
        Author.objects.create(name="thread 2")

    async def until(self, event):
        assert await asyncio.to_thread(event.wait, 20)
