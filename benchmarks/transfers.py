"""The transfers of `storm.py`: one class, a method for each way to make one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time


def define_models() -> None:
    """Make the two models, once there are settings."""
    global Account, Entry
    from django.db import models

    class Account(models.Model):
        balance = models.IntegerField()

        class Meta:
            app_label = "storm"

    class Entry(models.Model):
        transfer = models.IntegerField(db_index=True)
        account = models.ForeignKey(Account, models.CASCADE)
        amount = models.IntegerField()

        class Meta:
            app_label = "storm"


class Left(Exception):  # noqa: N818 - not an error
    """The transfer was left on purpose: it must not be there."""


class Transfer:
    """One transfer, by one of the ways. Ends in the task that runs it."""

    def __init__(self, number: int, accounts: list[int], chance: random.Random) -> None:
        self.number = number
        # In one order, or two transfers would wait for each other's rows.
        self.sides = sorted(chance.sample(accounts, 2))
        self.amount = chance.randrange(1, 50) * chance.choice([1, -1])
        self.pause = chance.random() * 0.002

    def book(self, side: int) -> None:
        """Write one side. Synchronous."""
        from django.db.models import F

        amount = self.amount if side else -self.amount
        Account.objects.filter(pk=self.sides[side]).update(balance=F("balance") + amount)
        Entry.objects.create(transfer=self.number, account_id=self.sides[side], amount=amount)

    async def abook(self, side: int) -> None:
        """Write one side."""
        from django.db.models import F

        amount = self.amount if side else -self.amount
        await Account.objects.filter(pk=self.sides[side]).aupdate(balance=F("balance") + amount)
        await Entry.objects.acreate(
            transfer=self.number, account_id=self.sides[side], amount=amount
        )

    def both(self) -> None:
        """Write both sides, in a block of its own. Synchronous."""
        from django.db import transaction

        with transaction.atomic():
            self.book(0)
            time.sleep(self.pause)
            self.book(1)

    async def plain(self) -> None:
        """A block in a coroutine."""
        from django.db import transaction

        async with transaction.atomic():
            await self.abook(0)
            await asyncio.sleep(self.pause)
            await self.abook(1)

    async def decorated(self) -> None:
        """A decorated coroutine function."""
        from django.db import transaction

        await transaction.atomic(self.steps)()

    async def steps(self) -> None:
        """Both sides, in somebody else's block."""
        await self.abook(0)
        await self.abook(1)

    async def savepoints(self) -> None:
        """A savepoint that fails, then one that does not."""
        from django.db import transaction

        async with transaction.atomic():
            await self.abook(0)
            with contextlib.suppress(Left):
                async with transaction.atomic():
                    await self.abook(1)
                    raise Left
            async with transaction.atomic():
                await self.abook(1)

    async def joined(self) -> None:
        """Each side by a task that joins."""
        from django.db import transaction

        async with transaction.atomic(), asyncio.TaskGroup() as group:
            group.create_task(self.abook(0))
            group.create_task(self.abook(1))

    async def bridged(self) -> None:
        """Synchronous code in the bridge."""
        from django_aio import run

        await run(self.both)

    async def guest(self) -> None:
        """A thread with a block of its own."""
        from asgiref.sync import sync_to_async

        await sync_to_async(self.both, thread_sensitive=False)()

    async def guest_in_block(self) -> None:
        """A thread that writes one side, in the coroutine's block."""
        from asgiref.sync import sync_to_async
        from django.db import transaction

        async with transaction.atomic():
            await self.abook(0)
            await sync_to_async(self.book, thread_sensitive=False)(1)

    async def timeout_in_block(self) -> None:
        """A thread that is left behind in a savepoint, whose side is written again."""
        from asgiref.sync import sync_to_async
        from django.db import transaction

        async with transaction.atomic():
            await self.abook(0)
            done = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.pause * 2), transaction.atomic():
                    await sync_to_async(self.book, thread_sensitive=False)(1)
                done = True
            if not done:
                await self.abook(1)

    async def thread_in_block(self) -> None:
        """A thread that joins; if it is left behind the block commits nothing of it."""
        from django.db import transaction

        done = []
        async with transaction.atomic():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.pause * 2):
                    await asyncio.to_thread(lambda: done.append(self.both()))
        if not done:
            raise Left

    async def generator(self) -> None:
        """A generator that holds the block, read to its end."""
        async for _ in self.sides_of_a_block():
            pass

    async def sides_of_a_block(self):
        """Both sides, in a block that is open between them."""
        from django.db import transaction

        async with transaction.atomic():
            for side in (0, 1):
                await self.abook(side)
                yield side

    async def left_generator(self) -> None:
        """A generator that holds the block, left after one side, or kept in a cycle."""
        async for _ in self.sides_of_a_block():
            break
        await Account.objects.aexists()
        raise Left

    async def collected_generator(self) -> None:
        """The same, left to the garbage collector."""
        rows = self.sides_of_a_block()
        await anext(rows)
        cycle = [rows]
        cycle.append(cycle)
        del rows, cycle
        raise Left

    async def left_iterator(self) -> None:
        """An iterator over rows that is left early, then a transfer."""
        async for _ in Account.objects.order_by("pk").aiterator(chunk_size=2):
            break
        await self.plain()

    async def left_sync_generator(self) -> None:
        """A synchronous generator in the bridge, left after one side."""
        from django_aio import run

        await run(self.leave_generator)
        raise Left

    def leave_generator(self) -> None:
        """Leave it."""
        from django.db import transaction

        def sides():
            with transaction.atomic():
                for side in (0, 1):
                    self.book(side)
                    yield side

        for _ in sides():
            return

    async def hooked(self) -> None:
        """A transfer with a hook that reads in tasks of its own."""
        from django.db import transaction

        async def hook() -> None:
            await asyncio.gather(Account.objects.aexists(), Account.objects.aexists())

        async with transaction.atomic():
            await self.steps()
            transaction.on_commit(hook)


WAYS = (
    *("plain", "decorated", "savepoints", "joined", "bridged", "guest", "guest_in_block"),
    *("timeout_in_block", "thread_in_block", "generator", "left_generator", "collected_generator"),
    *("left_iterator", "left_sync_generator", "hooked"),
)
