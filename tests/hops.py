"""Counts every hand-over to another thread: executor submissions and new threads."""

import concurrent.futures
import contextlib
import threading
import traceback

from asgiref.current_thread_executor import CurrentThreadExecutor


class Hops(list):
    """What was handed over, one description each, with the stack that did it."""

    @property
    def work(self) -> list[str]:
        """The hand-overs of work, without the starting of the threads for it."""
        return [hop for hop in self if hop.startswith("submit")]

    def by_sqlite(self) -> list[str]:
        """The hand-overs of SQLite's statements, and its connections' threads."""
        paths = ("/aiosqlite/", "/django_aio/db/backends/sqlite3/")
        return [hop for hop in self if any(path in hop.splitlines()[-2] for path in paths)]


@contextlib.contextmanager
def count_hops():
    """Record the hand-overs of the block, from any thread, into the list it yields."""
    hops = Hops()
    submit = concurrent.futures.ThreadPoolExecutor.submit
    submit_waiting = CurrentThreadExecutor.submit
    start = threading.Thread.start

    def note(what):
        stack = "".join(traceback.format_stack(limit=12)[:-2])
        hops.append(f"{what}\n{stack}")

    def counting_submit(self, fn, /, *args, **kwargs):
        note(f"submit {fn}")
        return submit(self, fn, *args, **kwargs)

    def counting_submit_waiting(self, fn, /, *args, **kwargs):
        note(f"submit {fn}")  # to a thread that waits in async_to_sync()
        return submit_waiting(self, fn, *args, **kwargs)

    def counting_start(self):
        note(f"start {self.name}")
        return start(self)

    concurrent.futures.ThreadPoolExecutor.submit = counting_submit
    CurrentThreadExecutor.submit = counting_submit_waiting
    threading.Thread.start = counting_start
    try:
        yield hops
    finally:
        concurrent.futures.ThreadPoolExecutor.submit = submit
        CurrentThreadExecutor.submit = submit_waiting
        threading.Thread.start = start
