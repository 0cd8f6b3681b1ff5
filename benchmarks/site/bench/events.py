"""A stream of server-sent events for `sse.py`, and what the server has to say about itself."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

# How many streams are open in this process.
streams = 0


async def ticks(every: float) -> AsyncGenerator[str]:
    """One event at once, then one in `every` seconds, each client at a time of its own."""
    global streams
    streams += 1
    try:
        yield "data: welcome\n\n"
        await asyncio.sleep(random.uniform(0, every))
        while True:
            yield "data: tick\n\n"
            await asyncio.sleep(every)
    finally:
        streams -= 1


async def events(request: HttpRequest) -> StreamingHttpResponse:
    every = float(request.GET.get("every", 30))
    return StreamingHttpResponse(ticks(every), content_type="text/event-stream")


async def status(request: HttpRequest) -> HttpResponse:
    """The open streams, the memory of this process in bytes, and how long a full collection took.

    The collection, in ms, is only made when the query string asks for it.
    """
    found = {"streams": streams, "memory": memory()}
    if "collect" in request.GET:
        began = time.perf_counter()
        gc.collect()
        found["pause"] = round((time.perf_counter() - began) * 1000)
    return JsonResponse(found)


def memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
