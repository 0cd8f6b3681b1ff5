"""The bridge: what crosses between coroutines and synchronous code, and where it refuses to."""

import asyncio
import gc
import inspect
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from bridged import later, start_and_close
from greenlet import GreenletExit, getcurrent, greenlet

from django_aio.bridge import BridgeError, in_bridge, run, wait

variable = ContextVar("variable", default="unset")


async def fail(error):
    await asyncio.sleep(0)
    raise error


async def call(func, *args):
    return func(*args)


async def test_run_passes_arguments_and_returns_the_result():
    # The names that run() uses itself are the function's all the same.
    found = await run(lambda *args, **kwargs: (args, kwargs), 1, func=2, args=3)
    assert found == ((1,), {"func": 2, "args": 3})


async def test_wait_returns_the_result_of_a_coroutine_or_a_task():
    assert await run(lambda: wait(later(1))) == 1
    assert await run(lambda: wait(asyncio.ensure_future(later(2)))) == 2


async def test_an_awaitable_that_the_function_returns_is_not_awaited():
    made = later()
    assert await run(lambda: made) is made
    made.close()


async def test_wait_refuses_what_cannot_be_awaited_at_the_call():
    await run(pytest.raises, TypeError, wait, 3)


async def test_in_bridge():
    assert not in_bridge()
    assert await run(in_bridge)
    assert not await run(lambda: wait(call(in_bridge)))
    assert await run(lambda: wait(run(in_bridge)))


@pytest.mark.parametrize("depth", [1, 50])
async def test_nested(depth):
    def sync(level):
        return wait(later(level)) if level == depth else wait(run(sync, level + 1)) + 1

    assert await run(sync, 0) == depth + depth


async def test_the_task_is_the_same():
    me = asyncio.current_task()
    assert await run(asyncio.current_task) is me
    assert await run(lambda: wait(call(asyncio.current_task))) is me


async def test_context_variables_are_seen_on_both_sides():
    def func():
        seen = [variable.get()]
        variable.set("inside")
        seen.append(wait(call(variable.get)))
        wait(call(variable.set, "coroutine"))
        return [*seen, variable.get()]

    variable.set("outside")
    assert await run(func) == ["outside", "inside", "coroutine"]
    assert variable.get() == "coroutine"


async def test_each_task_keeps_its_own_context():
    barrier = asyncio.Barrier(3)

    def func(value):
        variable.set(value)
        wait(barrier.wait())
        return variable.get()

    tasks = [asyncio.create_task(run(func, value)) for value in range(3)]
    assert await asyncio.gather(*tasks) == [0, 1, 2]
    assert variable.get() == "unset"


async def test_exceptions_cross_both_ways_with_whole_tracebacks():
    error = ValueError("deep")

    def frames():
        found = traceback.extract_tb(error.__traceback__)
        return [frame.name for frame in found if frame.filename == __file__]

    def outer():
        try:
            wait(middle())
        finally:
            assert frames() == ["outer", "middle", "inner", "fail"]

    async def middle():
        await run(inner)

    def inner():
        wait(fail(error))

    with pytest.raises(ValueError, match="deep") as caught:
        await run(outer)
    assert caught.value is error
    assert frames()[1:] == ["outer", "middle", "inner", "fail"]


async def test_code_that_catches_an_exception_can_wait_again():
    def func():
        with pytest.raises(ValueError, match="once"):
            wait(fail(ValueError("once")))
        return wait(later(sys.exc_info()[1]))

    assert await run(func) is None


async def test_stop_iteration_becomes_a_runtime_error():
    with pytest.raises(RuntimeError) as caught:
        await run(next, iter(()))
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize("kind", [BaseException, KeyboardInterrupt, SystemExit, GreenletExit])
async def test_exceptions_that_are_no_errors_cross_too(kind):
    def func():
        with pytest.raises(kind):
            wait(fail(kind))
        raise kind

    with pytest.raises(kind):
        await run(func)


async def test_the_exception_being_handled_is_the_same_after_a_wait():
    def func():
        try:
            raise ValueError("handled")
        except ValueError as error:
            wait(run(lambda: wait(later())))
            assert sys.exc_info()[1] is error  # noqa: PT017
            raise

    with pytest.raises(ValueError, match="handled"):
        await run(func)


async def test_code_inside_sees_the_exception_being_handled_outside():
    """As in a direct call, and with asgiref: error handlers call logger.exception()."""
    try:
        raise ValueError
    except ValueError:
        seen = await run(sys.exc_info)
    assert seen[0] is ValueError


async def test_a_coroutine_sees_the_exception_being_handled_by_the_code_that_waits():
    def func():
        try:
            raise ValueError
        except ValueError:
            return wait(call(sys.exc_info))[0]

    assert await run(func) is ValueError


@pytest.mark.parametrize("fails", [lambda: {}["key"], lambda: wait(fail(KeyError))])
async def test_an_exception_has_the_one_being_handled_inside_as_context(fails):
    def func():
        try:
            raise ValueError
        except ValueError:
            fails()

    try:
        raise OSError
    except OSError:
        with pytest.raises(KeyError) as caught:
            await run(func)
    assert isinstance(caught.value.__context__, ValueError)


async def test_cancellation_arrives_at_wait_and_clean_up_may_wait_and_be_cancelled():
    happened = []
    waiting = asyncio.Queue()

    def func():
        try:
            waiting.put_nowait("work")
            wait(asyncio.Event().wait())
        except asyncio.CancelledError:
            happened.append(wait(later("cleaned up")))
            raise
        finally:
            waiting.put_nowait("clean-up")
            wait(asyncio.Event().wait())

    task = asyncio.create_task(run(func))
    for _ in range(2):
        await waiting.get()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert happened == ["cleaned up"]


async def test_timeout():
    async def impatient():
        async with asyncio.timeout(0):
            await run(lambda: wait(asyncio.Event().wait()))

    def func():
        with pytest.raises(TimeoutError):
            wait(impatient())
        return wait(later("went on"))

    assert await run(func) == "went on"
    assert asyncio.current_task().cancelling() == 0


async def test_closing_runs_clean_up_and_refuses_its_waits(recwarn):
    waited = later()
    happened = []

    def func():
        try:
            wait(later())
        except GeneratorExit:
            happened.append("closed")
        finally:
            with pytest.raises(BridgeError, match=r"coroutine later .* run\(\) was closed"):
                wait(waited)
            wait(later("an error that nobody catches"))

    start_and_close(func)
    assert happened == ["closed"]
    assert inspect.getcoroutinestate(waited) == inspect.CORO_CLOSED
    assert not recwarn.list
    assert await run(int) == 0


async def test_gathered_runs_interleave():
    barrier = asyncio.Barrier(20)
    async with asyncio.timeout(30):
        found = await asyncio.gather(*(run(lambda: wait(barrier.wait())) for _ in range(20)))
    assert sorted(found) == list(range(20))


async def test_asynchronous_generators_on_both_sides():
    happened = []

    async def numbers():
        try:
            yield await run(lambda: wait(later(1)))
        finally:
            happened.append(await run(lambda: wait(later("cleaned up"))))

    def func():
        rows = numbers()
        assert wait(anext(rows)) == 1
        wait(rows.aclose())
        return wait(anext(rows, "closed"))

    assert [number async for number in numbers()] == [1]
    assert await run(func) == "closed"
    assert happened == ["cleaned up"] * 2


async def test_an_asynchronous_generator_closed_while_a_run_is_suspended_in_it():
    happened = []

    async def numbers():
        yield await run(func)

    def func():
        try:
            wait(later())
        finally:
            happened.append("unwound")

    step = anext(numbers())
    step.send(None)
    with pytest.raises(GeneratorExit):
        step.throw(GeneratorExit)
    assert happened == ["unwound"]


FOREIGN = r"another library .* coroutine later .* code that run\(\) started directly"
COROUTINE = "from a coroutine, or from a function .* coroutine later .*use 'await'"


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (wait, r"no event loop.* coroutine later .*'await run\(function, ...\)'"),
        (lambda waited: asyncio.run(call(wait, waited)), COROUTINE),
        (lambda waited: asyncio.run(run(lambda: wait(call(wait, waited)))), COROUTINE),
        (lambda waited: asyncio.run(run(greenlet(wait).switch, waited)), FOREIGN),
    ],
)
def test_wait_refuses_and_closes_the_coroutine(where, says):
    waited = later()
    with pytest.raises(BridgeError, match=says):
        where(waited)
    assert inspect.getcoroutinestate(waited) == inspect.CORO_CLOSED  # so Python does not warn


def test_wait_refuses_a_step_of_an_asynchronous_generator_without_a_warning(recwarn):
    async def numbers():
        yield 1

    with pytest.raises(BridgeError):
        wait(anext(numbers()))
    gc.collect()
    assert not recwarn.list


def test_loops_in_several_threads_at_once():
    everybody = threading.Barrier(4)

    def func():
        everybody.wait(30)
        wait(later())
        return getcurrent()

    with ThreadPoolExecutor(4) as pool:
        greenlets = set(pool.map(lambda _: asyncio.run(run(func)), range(4)))
    assert len(greenlets) == 4


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_one_loop_after_another(library):
    make = pytest.importorskip(library).new_event_loop
    for test in (test_gathered_runs_interleave, test_timeout):
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(test())
