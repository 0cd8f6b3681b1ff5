"""`AsyncClient`: the threads of its requests."""

import asyncio
import threading

from asgiref.sync import sync_to_async
from conftest import postgresql_only
from django.db import connection
from django.http import HttpResponse
from django.test import AsyncClient, override_settings
from django.urls import path
from staying import urlconf


async def test_each_request_has_a_thread_of_its_own():
    """A synchronous view may wait for what another request does in a thread."""

    def waiting(request):
        loop.call_soon_threadsafe(entered.set)
        return HttpResponse(str(freed.wait(20)))

    async def freeing(request):
        await entered.wait()
        await sync_to_async(freed.set)()
        return HttpResponse()

    loop, entered, freed = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    urls = urlconf(path("waiting/", waiting), path("freeing/", freeing))
    with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[]):
        client = AsyncClient()
        response, _ = await asyncio.gather(client.get("/waiting/"), client.get("/freeing/"))
    assert response.text == "True"


async def test_a_cancelled_request_waits_for_its_thread_and_not_the_loop():
    def waiting(request):
        loop.call_soon_threadsafe(entered.set)
        freed.wait(20)
        return HttpResponse()

    loop, entered, freed = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    with override_settings(ROOT_URLCONF=urlconf(path("", waiting)), MIDDLEWARE=[]):
        task = asyncio.create_task(AsyncClient().get("/"))
        await entered.wait()
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        freed.set()
        await asyncio.wait([task])
    assert task.cancelled()


@postgresql_only
async def test_requests_in_tasks_share_no_session_with_the_test(db):
    """A tenant's middleware keeps state in the session, or on the connection object."""

    async def tenant(request):
        async with connection.cursor() as cursor:
            await cursor.execute(
                "SELECT set_config('app.tenant', %s, false)", [request.GET["name"]]
            )
            await cursor.execute("SELECT pg_sleep(0), current_setting('app.tenant')")
            await asyncio.sleep(0)
            await cursor.execute("SELECT current_setting('app.tenant')")
            return HttpResponse((await cursor.fetchone())[0])

    async with connection.cursor() as cursor:  # the test has a session
        await cursor.execute("SELECT set_config('app.tenant', 'of the test', false)")
    with override_settings(ROOT_URLCONF=urlconf(path("", tenant)), MIDDLEWARE=[]):
        client = AsyncClient()
        found = await asyncio.gather(*(client.get("/", {"name": name}) for name in "abc"))
    assert [response.text for response in found] == ["a", "b", "c"]
