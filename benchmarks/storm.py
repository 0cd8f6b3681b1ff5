#!/usr/bin/env python
"""Does money get lost? Transfers by all ways there are, under cancellation, kills and collections.

Transfers between accounts are made by random mixtures of ORM calls, nested blocks, tasks that join,
generators that are left early, synchronous code in the bridge, threads that are left behind. They
are cancelled once and twice, by timeouts, by anyio's scopes; their sessions are killed; the garbage
collector runs in the middle of others. Afterwards the books must balance:

- the sum of all balances is what it was, and each balance is what its entries say;
- a transfer that reported a commit is there whole; one that reported anything else is there whole
  or not at all, and one whose block was left is not there;
- no session is in a transaction, no connection out, no task, thread or descriptor left, and memory
  does not grow.

    python benchmarks/storm.py --minutes 20
    python benchmarks/storm.py --seconds 5 --database sqlite --loop uvloop --seed 7

Without --database, --loop and --pool every combination is run, each for its share of the time.
Exit status 1 if anything is wrong. The PostgreSQL server is that of PGHOST, PGPORT, PGUSER and
PGPASSWORD; a database is made there and dropped again.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import contextvars
import gc
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import transfers
from transfers import WAYS, Left, Transfer

ACCOUNTS = 12
START = 1000
TASKS = {"postgresql": 16, "sqlite": 5}
SERVER = {
    "host": os.environ.get("PGHOST", "127.0.0.1"),
    "port": os.environ.get("PGPORT", "5432"),
    "user": os.environ.get("PGUSER", "postgres"),
    "password": os.environ.get("PGPASSWORD", ""),
}


def main() -> int:
    """Run one combination, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--database", choices=["postgresql", "sqlite"])
    parser.add_argument("--loop", choices=["asyncio", "uvloop"])
    parser.add_argument("--pool", choices=["yes", "no"])
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    seconds = options.minutes * 60 + options.seconds or 60
    combinations = [
        (database, loop, pool)
        for database in ([options.database] if options.database else ["postgresql", "sqlite"])
        for loop in ([options.loop] if options.loop else ["asyncio", "uvloop"])
        for pool in ([options.pool] if options.pool else ["no", "yes"])
        if not (database == "sqlite" and pool == "yes")
    ]
    if len(combinations) == 1:
        return run_one(*combinations[0], seconds, options.seed)
    failed = 0
    for number, (database, loop, pool) in enumerate(combinations):
        command = [sys.executable, __file__, "--seconds", str(seconds / len(combinations))]
        command += ["--database", database, "--loop", loop, "--pool", pool]
        command += ["--seed", str(options.seed + number)]
        failed += subprocess.run(command).returncode != 0
    return 1 if failed else 0


def run_one(database: str, loop: str, pool: str, seconds: float, seed: int) -> int:
    """Run one combination in this process. Returns the exit status."""
    with contextlib.ExitStack() as stack:
        configure(database, pool == "yes", stack)
        storm = Storm(database, seconds, seed)
        started = time.monotonic()
        if loop == "uvloop":
            import uvloop

            uvloop.run(storm.run())
        else:
            asyncio.run(storm.run())
        storm.after_the_loop()
        print(
            f"{database}, {loop}, pool {pool}, seed {seed}: {storm.summary()}, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
        for line in storm.wrong:
            print(f"  WRONG: {line}", flush=True)
        return 1 if storm.wrong else 0


def configure(database: str, pool: bool, stack: contextlib.ExitStack) -> None:
    """Settings, a database, and two tables."""
    import django
    from django.conf import settings

    if database == "postgresql":
        import psycopg

        name = f"aio_storm_{os.getpid()}"
        admin = psycopg.connect(dbname="postgres", autocommit=True, **SERVER)
        admin.execute(f'CREATE DATABASE "{name}"')
        stack.callback(admin.execute, f'DROP DATABASE "{name}" WITH (FORCE)')
        default = {"ENGINE": "django.db.backends.postgresql", "NAME": name}
        default |= {key.upper(): value for key, value in SERVER.items()}
        if pool:
            default["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 8, "timeout": 10}}
        else:
            default["CONN_MAX_AGE"] = 60
    else:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pragmas = "PRAGMA journal_mode=WAL;PRAGMA synchronous=OFF"
        default = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": Path(folder, "storm.sqlite3"),
            "CONN_MAX_AGE": 60,
            "OPTIONS": {
                "init_command": pragmas,
                "transaction_mode": "IMMEDIATE",
                "timeout": 10,
            },
        }
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # of the sessions that are killed
    settings.configure(
        DATABASES={"default": default},
        INSTALLED_APPS=["django_aio", "django.contrib.contenttypes"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()
    transfers.define_models()
    from django.db import connection

    with connection.schema_editor() as editor:
        for model in (transfers.Account, transfers.Entry):
            editor.create_model(model)
    Account = transfers.Account  # noqa: N806 - a model
    Account.objects.bulk_create([Account(balance=START) for _ in range(ACCOUNTS)])
    connection.close()
    if pool:
        connection.close_pool()


class Storm:
    """All transfers of one run."""

    def __init__(self, database: str, seconds: float, seed: int) -> None:
        self.database = database
        self.seconds = seconds
        self.chance = random.Random(seed)
        self.numbers = iter(range(1, 10**9))
        self.accounts: list[int] = []
        self.outcomes: dict[int, tuple[str, str]] = {}  # by transfer: how it ended, and its way
        self.slowest: tuple[float, str] = (0.0, "")
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.sizes: list[int] = []

    async def run(self) -> None:
        """Blow, then look what is left."""
        self.accounts = [pk async for pk in transfers.Account.objects.values_list("pk", flat=True)]
        self.descriptors = None
        end = time.monotonic() + self.seconds
        rounds = 0
        while time.monotonic() < end:
            await self.blow(min(end, time.monotonic() + max(1.0, self.seconds / 8)))
            rounds += 1
            await self.calm_down()
            gc.collect()
            self.sizes.append(len(gc.get_objects()))
            if self.descriptors is None and rounds >= 2:
                self.descriptors = len(os.listdir("/proc/self/fd"))
        await self.look()

    async def blow(self, end: float) -> None:
        """Make transfers until then, and trouble."""
        workers = [asyncio.create_task(self.work(end)) for _ in range(TASKS[self.database])]
        if self.database == "postgresql":
            workers.append(asyncio.create_task(self.kill(end)))
        await asyncio.gather(*workers)

    async def work(self, end: float) -> None:
        """One transfer after another, each in a task of its own."""
        while time.monotonic() < end:
            way = self.chance.choice(WAYS)
            transfer = Transfer(next(self.numbers), self.accounts, self.chance)
            task = asyncio.create_task(self.transfer(transfer, way), context=contextvars.Context())
            if self.chance.random() < 0.4:
                await self.cancel(task)
            await asyncio.wait([task], timeout=30)
            if not task.done():
                self.wrong.append(f"{way} hangs")
                task.print_stack()
                return

    async def transfer(self, transfer: Transfer, way: str) -> None:
        """Make one, note how it ended."""
        outcome, started = "failed", time.monotonic()
        try:
            await self.under_a_scope(getattr(transfer, way))
        except Left:
            outcome = "left"
        except Exception as error:
            self.counts[type(error).__name__] += 1
        else:
            outcome = "committed"
        finally:
            self.outcomes[transfer.number] = outcome, way
            self.slowest = max(self.slowest, (time.monotonic() - started, way))
            self.counts[outcome] += 1
            self.counts["transfers"] += 1
        # The task goes on, as after a timeout: its next statement must work.
        if outcome != "failed" or self.chance.random() < 0.5:
            with contextlib.suppress(Exception):
                await transfers.Account.objects.aexists()

    async def under_a_scope(self, function):
        """Run it plainly, under a timeout, or under a scope of anyio."""
        import anyio

        kind, seconds = self.chance.random(), self.chance.random() * 0.02
        if kind < 0.7:
            return await function()
        self.faults["scope"] += 1
        if kind < 0.85:
            async with asyncio.timeout(seconds):
                return await function()
        with anyio.fail_after(seconds):
            return await function()

    async def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel a transfer after a while, once or twice, or with a collection in between."""
        await asyncio.sleep(self.chance.random() * 0.02)
        self.faults["cancel"] += task.cancel()
        again = self.chance.random()
        if again < 0.5:
            await asyncio.sleep(self.chance.choice([0, 0, 0.001]))
            self.faults["cancel again"] += task.cancel()
        elif again < 0.6:
            gc.collect()
            self.faults["collection"] += 1

    async def kill(self, end: float) -> None:
        """Kill a session of the database now and then."""
        import psycopg

        name = f"aio_storm_{os.getpid()}"
        admin = await psycopg.AsyncConnection.connect(dbname="postgres", autocommit=True, **SERVER)
        async with admin:
            while time.monotonic() < end:
                await asyncio.sleep(self.chance.random() * 0.2)
                killed = await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity "
                    "WHERE datname = %s ORDER BY random() LIMIT 1) AS one",
                    [name],
                )
                self.faults["kill"] += killed.rowcount

    async def calm_down(self) -> None:
        """Wait for what was left behind."""
        gc.collect()
        for _ in range(200):
            left = [t for t in asyncio.all_tasks() if not self.is_expected(t)]
            if not left and not self.busy_threads():
                return
            await asyncio.sleep(0.05)
        self.wrong.append(f"tasks that stay: {left[:3]}, threads {threading.enumerate()}")

    def is_expected(self, task: asyncio.Task[object]) -> bool:
        """Whether a task is this one, or of psycopg_pool, whose waits are tasks in Python 3.11."""
        is_wait = getattr(task.get_coro(), "__qualname__", "") == "Event.wait"
        is_of_pool = task.get_name().startswith("pool-")
        return is_wait or is_of_pool or task is asyncio.current_task()

    def busy_threads(self) -> bool:
        """Whether a guest that was left behind still works."""
        from django_aio.db.state import guests

        return bool(guests)

    async def look(self) -> None:
        """The books, and what is still open."""
        from django.db.models import Count, Sum

        for _ in range(5):  # a killed session may be what a pool lends first
            with contextlib.suppress(Exception):
                await transfers.Account.objects.aexists()
        total = (await transfers.Account.objects.aaggregate(total=Sum("balance")))["total"]
        self.expect(total, ACCOUNTS * START, "the sum of all balances")
        entries = transfers.Entry.objects.values("account").annotate(total=Sum("amount")).order_by()
        booked = {row["account"]: row["total"] async for row in entries}
        async for account in transfers.Account.objects.all():
            right = START + booked.get(account.pk, 0)
            self.expect(account.balance, right, f"the balance of account {account.pk}")
        rows = transfers.Entry.objects.values("transfer").annotate(sides=Count("pk")).order_by()
        there = {row["transfer"]: row["sides"] async for row in rows}
        allowed = {"committed": {2}, "failed": {0, 2}, "left": {0}}
        for number, (outcome, way) in self.outcomes.items():
            sides = there.get(number, 0)
            if sides not in allowed[outcome]:
                self.wrong.append(f"transfer {number}, {way}, {outcome}: {sides} sides")
        if len(self.sizes) > 4:
            grown = self.sizes[-1] / self.sizes[len(self.sizes) // 3]
            if grown > 1.1:
                self.wrong.append(f"objects grow by {grown:.2f}: {self.sizes}")
        if self.database == "postgresql":
            await self.look_at_the_server()
        from django_aio import loops

        for each in loops.store().pools.values():
            self.expect(each.out, {}, "connections out")

    async def look_at_the_server(self) -> None:
        """No session is in a transaction but the one that asks."""
        from django.db import connection

        async with connection.cursor() as cursor:
            await cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
            )
            self.expect(await cursor.fetchone(), (0,), "sessions in a transaction")
        from django_aio import run

        await run(connection.close)
        await asyncio.sleep(0.1)

    def after_the_loop(self) -> None:
        """Threads end with the loop, but for those of executors."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            left = [t for t in threading.enumerate() if "_connection_worker" in t.name]
            if not left:
                break
            time.sleep(0.05)
        self.expect(left, [], "threads of connections")
        if self.descriptors is not None:
            now = len(os.listdir("/proc/self/fd"))
            if now > self.descriptors:
                self.wrong.append(f"descriptors: {self.descriptors}, then {now}")

    def expect(self, found: object, wanted: object, what: str) -> None:
        """Note what is wrong."""
        if found != wanted:
            self.wrong.append(f"{what}: {found}, not {wanted}")

    def summary(self) -> str:
        """What was done, in a line."""
        counts = self.counts
        ended = ", ".join(f"{counts[each]} {each}" for each in ("committed", "failed", "left"))
        faults = ", ".join(f"{count} {fault}" for fault, count in sorted(self.faults.items()))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        slowest = f"the slowest {self.slowest[0]:.1f} s ({self.slowest[1]})"
        return f"{counts['transfers']} transfers ({ended}), {slowest}; {faults}; {memory} MB"


if __name__ == "__main__":
    sys.exit(main())
