"""Streaming responses: whose iterator runs where, how far it gets ahead, and that it is closed."""

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest
from asgiref.sync import SyncToAsync
from conftest import bridge_pool, postgresql_only
from django.core.signals import request_finished
from django.http import StreamingHttpResponse
from django.test import override_settings
from hops import count_hops
from streams import Stream, routed
from testapp.models import Author

from django_aio import cooperative, wait
from django_aio.core.handlers.ahead import MOST_CHUNKS
from django_aio.db import chains

LISTED = override_settings(AIO={"COOPERATIVE": [__name__]})


def here():
    return "loop" if threading.current_thread() is threading.main_thread() else "thread"


class Rows:
    """A view whose generator says what happens to it."""

    def __init__(self, most=1000):
        self.most = most
        self.produced = 0
        self.closed = []

    def rows(self):
        try:
            for number in range(self.most):
                self.produced += 1
                yield f"{number}:{here()}"
        finally:
            self.closed.append(here())

    def __call__(self, request):
        return StreamingHttpResponse(self.rows())


class AsyncRows(Rows):
    """The same with an asynchronous generator, which notes the task that closed it."""

    async def rows(self):
        try:
            for number in range(self.most):
                self.produced += 1
                yield f"{number}:{here()}"
        finally:
            await asyncio.sleep(0)
            self.closed.append(asyncio.current_task())


class TestSynchronous:
    async def test_a_trusted_iterator_runs_on_the_loop(self):
        view = Rows(3)
        with LISTED, routed(rows=view), count_hops() as hops:
            async with Stream("/rows/") as stream:
                assert (await stream.start())[0] == 200
                assert await stream.rest() == [b"0:loop", b"1:loop", b"2:loop"]
        assert not hops
        assert view.closed == ["loop"]

    async def test_another_runs_in_a_thread_batch_by_batch(self):
        rows = Rows(MOST_CHUNKS * 3)

        @cooperative
        def view(request):
            return StreamingHttpResponse(rows.rows())

        with routed(rows=view), count_hops() as hops:
            async with Stream("/rows/") as stream:
                await stream.start()
                assert len(await stream.rest()) == MOST_CHUNKS * 3
        assert rows.closed == ["thread"]
        # Three full batches, and the one that finds the end.
        assert len([hop for hop in hops if hop.startswith("submit")]) == 4

    async def test_nothing_is_read_whole_and_nothing_is_warned_about(self):
        """Warnings are errors here."""
        view = Rows(10**9)
        with routed(rows=view):
            async with Stream("/rows/") as stream:
                await stream.start()
                assert await stream.chunk() == b"0:thread"
                await stream.disconnect()
        assert view.produced <= 2 * MOST_CHUNKS
        assert view.closed == ["thread"]

    @pytest.mark.parametrize("listed", [True, False])
    async def test_back_pressure(self, listed):
        view = Rows(10**9)
        with override_settings(AIO={"COOPERATIVE": [__name__] * listed}), routed(rows=view):
            async with Stream("/rows/") as stream:
                await stream.start()
                for _ in range(5):
                    _, taken = await stream.offered()
                    if listed:
                        assert view.produced <= 5
                    taken.set()
                await stream.offered()
                await asyncio.sleep(0)
                produced = view.produced
                # However often the loop goes round: the client does not read, nothing is produced.
                await asyncio.to_thread(lambda: None)
                for _ in range(100):
                    await asyncio.sleep(0)
                assert view.produced <= (6 if listed else MOST_CHUNKS)
                assert produced <= view.produced <= (6 if listed else MOST_CHUNKS)
                await stream.disconnect()
        assert view.closed == ["loop" if listed else "thread"]

    async def test_large_chunks_are_not_collected(self):
        produced = []

        def rows():
            for number in range(10):
                produced.append(number)
                yield b"x" * 2**16

        with routed(rows=lambda request: StreamingHttpResponse(rows())):
            async with Stream("/rows/") as stream:
                await stream.start()
                await stream.offered()
                await asyncio.to_thread(lambda: None)
                assert produced == [0]

    async def test_a_chunk_before_a_pause_is_not_held_back(self):
        """A stream like `tail -f`: what is there is sent, although the thread waits for more."""
        go_on = threading.Event()

        def rows():
            yield "before"
            yield "the pause"
            go_on.wait(20)
            yield "after"

        with routed(rows=lambda request: StreamingHttpResponse(rows())):
            async with Stream("/rows/") as stream:
                await stream.start()
                assert await stream.chunk() == b"before"
                assert await stream.chunk() == b"the pause"
                go_on.set()
                assert await stream.rest() == [b"after"]

    async def test_bridged_generators_wait_on_the_loop(self):
        more = asyncio.Event()

        def rows():
            yield "before"
            wait(more.wait())
            yield "after"

        with LISTED, routed(rows=lambda request: StreamingHttpResponse(rows())):
            async with Stream("/rows/") as stream:
                await stream.start()
                assert await stream.chunk() == b"before"
                more.set()
                assert await stream.rest() == [b"after"]

    @pytest.mark.parametrize("listed", [True, False])
    async def test_an_error_comes_after_the_chunks_before_it(self, listed):
        def rows():
            yield "before"
            raise ValueError("the stream failed")

        view = lambda request: StreamingHttpResponse(rows())  # noqa: E731
        with override_settings(AIO={"COOPERATIVE": [__name__] * listed}), routed(rows=view):
            async with Stream("/rows/") as stream:
                await stream.start()
                assert await stream.chunk() == b"before"
                with pytest.raises(ValueError, match="the stream failed"):
                    await stream.take()

    @pytest.mark.parametrize("listed", [True, False])
    async def test_a_send_that_fails_closes_the_iterator(self, listed):
        view = Rows()
        calls = []

        async def send(message):
            calls.append(message)
            if len(calls) == 3:
                raise OSError("the client is gone")

        with override_settings(AIO={"COOPERATIVE": [__name__] * listed}), routed(rows=view):
            stream = Stream("/rows/")
            stream._send = send
            async with stream:
                with contextlib.suppress(OSError):
                    await stream.task
        assert view.closed == ["loop" if listed else "thread"]

    @pytest.mark.parametrize("listed", [True, False])
    async def test_a_disconnect_before_the_first_chunk(self, listed):
        view = Rows()
        with override_settings(AIO={"COOPERATIVE": [__name__] * listed}), routed(rows=view):
            async with Stream("/rows/") as stream:
                await stream.offered()
                await stream.disconnect()
        assert view.produced == 0

    @pytest.mark.parametrize("listed", [True, False])
    async def test_every_close_is_called_once(self, listed):
        class Closable:
            closed = 0

            def __iter__(self):
                return self

            def __next__(self):
                raise StopIteration

            def close(self):
                Closable.closed += 1

        view = lambda request: StreamingHttpResponse(Closable())  # noqa: E731
        with override_settings(AIO={"COOPERATIVE": [__name__] * listed}), routed(rows=view):
            async with Stream("/rows/") as stream:
                await stream.start()
                await stream.rest()
        assert Closable.closed == 1

    async def test_the_generator_of_an_iterable_is_closed_where_it_ran(self):
        rows = Rows()

        class Iterable:
            def __iter__(self):
                return rows.rows()

        with routed(rows=lambda request: StreamingHttpResponse(Iterable())):
            async with Stream("/rows/") as stream:
                await stream.start()
                await stream.chunk()
                await stream.disconnect()
        assert rows.closed == ["thread"]

    async def test_a_subclass_that_iterates_by_itself_is_left_alone(self):
        class Own(StreamingHttpResponse):
            async def __aiter__(self):
                yield b"mine"

        with routed(rows=lambda request: Own(Rows().rows())):
            async with Stream("/rows/") as stream:
                await stream.start()
                assert await stream.rest() == [b"mine"]

    async def test_gzip(self):
        import gzip

        with (
            routed(rows=Rows(3)),
            override_settings(MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"]),
        ):
            async with Stream("/rows/", headers={"accept-encoding": "gzip"}) as stream:
                _, headers = await stream.start()
                body = b"".join(await stream.rest())
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(body) == b"0:thread1:thread2:thread"

    async def test_without_the_handler_djangos_warning_stays(self):
        """Who iterates over a response himself gets what Django gives him."""
        response = StreamingHttpResponse(iter(["a", "b"]))
        with pytest.warns(Warning, match="must consume synchronous iterators"):
            assert [chunk async for chunk in response] == [b"a", b"b"]


class TestAsynchronous:
    async def test_a_disconnect_closes_a_generator_that_waits(self):
        closed = []
        started = asyncio.Event()

        async def events():
            try:
                yield "first"
                started.set()
                await asyncio.Event().wait()
            finally:
                closed.append(asyncio.current_task())

        with routed(events=lambda request: StreamingHttpResponse(events())):
            async with Stream("/events/") as stream:
                await stream.start()
                assert await stream.chunk() == b"first"
                await started.wait()
                await stream.disconnect()
                assert closed == [stream.task]

    async def test_a_disconnect_closes_a_generator_whose_client_does_not_read(self):
        """It is suspended at its `yield`, where no cancellation reaches it."""
        view = AsyncRows()
        with routed(events=view):
            async with Stream("/events/") as stream:
                await stream.start()
                await stream.offered()
                await stream.disconnect()
                assert view.closed == [stream.task]

    async def test_what_middleware_wrapped_is_closed_too(self):
        view = AsyncRows()
        with (
            routed(events=view),
            override_settings(MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"]),
        ):
            async with Stream("/events/", headers={"accept-encoding": "gzip"}) as stream:
                await stream.start()
                await stream.chunk()  # gzip's own head
                await stream.offered()
                await stream.disconnect()
                assert view.closed == [stream.task]

    async def test_back_pressure(self):
        view = AsyncRows()
        with routed(events=view):
            async with Stream("/events/") as stream:
                await stream.start()
                for number in range(5):
                    _, taken = await stream.offered()
                    for _ in range(10):
                        await asyncio.sleep(0)
                    assert view.produced == number + 1
                    taken.set()
                await stream.disconnect()

    async def test_long_polling(self):
        answer = asyncio.get_running_loop().create_future()

        async def poll():
            yield await answer

        with routed(poll=lambda request: StreamingHttpResponse(poll())):
            async with Stream("/poll/") as stream:
                assert (await stream.start())[0] == 200
                answer.set_result("news")
                assert await stream.rest() == [b"news"]

    async def test_the_generators_error_is_raised(self):
        async def events():
            yield "first"
            raise ValueError("the stream failed")

        with routed(events=lambda request: StreamingHttpResponse(events())):
            async with Stream("/events/") as stream:
                await stream.start()
                await stream.chunk()
                with pytest.raises(ValueError, match="the stream failed"):
                    await stream.take()

    @pytest.mark.parametrize("view", [Rows, AsyncRows])
    async def test_a_thousand_aborted_streams_leave_nothing(self, view, db):
        finished = []
        receiver = lambda **kwargs: finished.append(1)  # noqa: E731
        request_finished.connect(receiver)
        alive = weakref.WeakSet()

        class Tracked(StreamingHttpResponse):
            def __init__(self, *args):
                super().__init__(*args)
                alive.add(self)

        rows = view(10**9)

        @cooperative
        def streams(request):
            return Tracked(rows.rows())

        async def abort():
            async with Stream("/rows/") as stream:
                await stream.start()
                await stream.offered()
                await stream.disconnect()

        try:
            with LISTED, routed(rows=streams):
                for _ in range(20):
                    await asyncio.gather(*(abort() for _ in range(50)))
        finally:
            request_finished.disconnect(receiver)
        assert len(rows.closed) == len(finished) == 1000
        # Django's own generator round ours is finalised by a task of the loop.
        for _ in range(5):
            gc.collect()
            await asyncio.sleep(0)
        assert not list(alive)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert set(chains.tasks) <= {asyncio.current_task()}

    async def test_aborted_streams_of_threads_leave_no_thread(self):
        view = Rows(10**9)

        async def abort():
            async with Stream("/rows/") as stream:
                await stream.start()
                await stream.chunk()
                await stream.disconnect()

        before = set(threading.enumerate())
        with routed(rows=view):
            for _ in range(5):
                await asyncio.gather(*(abort() for _ in range(10)))
        assert view.closed == ["thread"] * 50
        lasting = before | SyncToAsync.single_thread_executor._threads
        for thread in set(threading.enumerate()) - lasting:
            thread.join(60)  # told to end, and perhaps still at it
            assert not thread.is_alive()


@postgresql_only
class TestConnections:
    """A pool of four: forty streams that held one between two chunks would wait for ever."""

    async def forty(self, view, first):
        async def one(everyone):
            async with Stream("/rows/") as stream:
                await stream.start()
                assert await stream.chunk() == first
                await everyone.wait()
                return await stream.rest()

        everyone = asyncio.Barrier(40)
        with routed(rows=view):
            async with asyncio.timeout(60):
                return await asyncio.gather(*(one(everyone) for _ in range(40)))

    @pytest.mark.parametrize("listed", [True, False])
    async def test_a_generator_holds_none_between_two_queries(self, pooled, listed):
        await Author.objects.acreate(name="a")

        def rows():
            yield Author.objects.get().name
            # More than a batch, so that the thread stops between the two queries.
            yield b"x" * 2**17
            yield Author.objects.get().name

        with override_settings(AIO={"COOPERATIVE": [__name__] * listed}):
            rest = await self.forty(lambda request: StreamingHttpResponse(rows()), b"a")
        assert all(chunks[-1] == b"a" for chunks in rest)
        assert bridge_pool().out == {}

    async def test_an_iterator_holds_its_cursor_until_it_is_closed(self, pooled):
        await Author.objects.abulk_create([Author(name=str(n)) for n in range(10)])

        @cooperative
        def view(request):
            names = Author.objects.order_by("pk").values_list("name", flat=True)
            return StreamingHttpResponse(names.iterator(chunk_size=2))

        with routed(rows=view):
            async with Stream("/rows/") as stream:
                await stream.start()
                assert await stream.chunk() == b"0"
                assert len(bridge_pool().out) == 1
                await stream.disconnect()
            assert bridge_pool().out == {}
            async with Stream("/rows/") as stream:
                await stream.start()
                assert len(await stream.rest()) == 10
        assert bridge_pool().out == {}
