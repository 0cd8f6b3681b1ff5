"""Greenlets of the bridge: used again, with nothing in them, and beside those of others."""

import asyncio
import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import pytest
from bridged import later, start_and_close
from greenlet import getcurrent, greenlet

from django_aio import bridge
from django_aio.bridge import in_bridge, run, wait

variable = ContextVar("variable", default="unset")

ROOT = Path(__file__).parent.parent


async def test_greenlets_are_used_again():
    assert await run(getcurrent) is await run(getcurrent)


async def test_greenlets_keep_no_arguments_results_exceptions_or_context():
    refs = []

    class Thing(BaseException):
        pass

    def func(thing, error=None):
        refs.append(weakref.ref(thing))
        variable.set(thing)
        if error:
            raise error
        return thing

    async def main():
        await run(func, Thing())
        try:
            await run(func, Thing(), Thing)
        except Thing as error:
            refs.append(weakref.ref(error))

    gc.disable()  # a reference cycle is a leak too
    try:
        await asyncio.create_task(main())
        await later()  # until the loop has forgotten the task, and with it the context
        assert [ref() for ref in refs] == [None, None, None]
    finally:
        gc.enable()


def in_new_thread(number):
    """Run several functions at once in a new thread. Return their greenlets and how many idle."""

    async def main():
        barrier = asyncio.Barrier(number)
        refs = await asyncio.gather(*(run(func, barrier) for _ in range(number)))
        return refs, len(bridge._idle.workers)

    def func(barrier):
        wait(barrier.wait())
        return weakref.ref(getcurrent())

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, main()).result(30)


async def test_an_idle_greenlet_keeps_nothing_of_what_it_ran():
    """Not even of the first function, which it was made for, nor its result."""

    class Argument:
        pass

    bridge._idle.workers.clear()
    for _ in range(2):
        argument = Argument()
        kept = weakref.ref(argument)
        assert await run(lambda argument: wait(later(argument)), argument) is argument
        assert len(bridge._idle.workers) == 1
        del argument
        gc.collect()
        assert kept() is None


def test_idle_greenlets_are_bounded(monkeypatch):
    monkeypatch.setattr(bridge, "MAX_IDLE", 3)
    assert in_new_thread(10)[1] == 3


@pytest.mark.parametrize("why", ["over the bound", "thread ended", "closed"])
def test_greenlets_are_freed(monkeypatch, why):
    # What other tests have left is closed now, and not in the middle: its greenlets would then have
    # one of these as their parent.
    gc.collect()
    monkeypatch.setattr(bridge, "_idle", type(bridge._idle)())
    refs = []
    if why == "closed":
        start_and_close(lambda: (refs.append(weakref.ref(getcurrent())), wait(later())))
    else:
        monkeypatch.setattr(bridge, "MAX_IDLE", 0 if why == "over the bound" else 3)
        refs, _ = in_new_thread(3)
    gc.collect()
    assert not [ref() for ref in refs if ref() is not None]


async def test_a_greenlet_of_another_library_inside_is_not_the_bridge():
    def other():
        return [in_bridge(), getcurrent().parent.switch("first"), in_bridge()]

    def func():
        foreign = greenlet(other)
        assert foreign.switch() == "first"
        assert wait(later(in_bridge()))
        return foreign.switch("second")

    assert await run(func) == [False, "second", False]


async def test_another_library_that_works_the_same_way_can_be_in_between():
    """SQLAlchemy's asyncio extension, in essence."""

    async def spawn(func):
        foreign = greenlet(func)
        answer = foreign.switch()
        while not foreign.dead:
            answer = foreign.switch(await answer)
        return answer

    def theirs():
        return in_bridge(), getcurrent().parent.switch(run(lambda: wait(later(in_bridge()))))

    assert await run(lambda: wait(spawn(theirs))) == (False, True)


# Bridged code that takes a step of another coroutine. In a process of its own: it may break it.
STEPS = """
import asyncio
from django_aio.bridge import run, wait

def work(number):
    return wait(asyncio.sleep(0, number)) + wait(asyncio.sleep(0, number))

async def closing():
    # As the garbage collector closes a forgotten coroutine wherever it happens to run.
    started = run(work, 0)
    started.send(None)
    print(await run(lambda: started.close() or work(1)))

async def eager():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    print(await run(lambda: wait(asyncio.gather(run(work, 1), run(work, 2)))))
"""
NEW = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")


@pytest.mark.parametrize(
    ("main", "prints"), [("closing", "2"), pytest.param("eager", "[2, 4]", marks=NEW)]
)
def test_bridged_code_steps_another_coroutine(main, prints):
    command = [sys.executable, "-c", f"{STEPS}\nasyncio.run({main}())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (prints, "")
