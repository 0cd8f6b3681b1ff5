import asyncio
import threading

from django.contrib.auth.decorators import login_required
from django.db import connection, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import aget_object_or_404
from django.template.response import TemplateResponse
from django.views import View

from testapp.models import Author, Book

# What tests of disconnects look at: set by the test, filled by the view.
events: dict[str, asyncio.Event] = {}


async def json(request):
    return JsonResponse({"message": "Hello, World!"})


async def row(request, pk):
    author = await aget_object_or_404(Author, pk=pk)
    return JsonResponse({"name": author.name})


async def template(request):
    return TemplateResponse(request, "books.html", {"books": Book.objects.order_by("pk")})


def where(request):
    return HttpResponse(f"{threading.current_thread() is threading.main_thread()}")


class Where(View):
    def get(self, request):
        return where(request)


class AsyncWhere(View):
    async def get(self, request):
        return where(request)


async def stream(request):
    async def lines():
        async for author in Author.objects.order_by("pk"):
            yield f"{author.name}\n"

    return StreamingHttpResponse(lines())


async def slow(request):
    events["started"].set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        events["cancelled"].set()
        raise


async def sleep(request):
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT pg_sleep(60)")


async def fail(request):
    raise ValueError("the view failed")


async def write(request):
    await Author.objects.acreate(name=request.GET["name"])
    if "fail" in request.GET:
        raise ValueError("the view failed")
    return HttpResponse("written")


@transaction.non_atomic_requests
async def write_now(request):
    return await write(request)


@login_required
async def private(request):
    return HttpResponse("private")
