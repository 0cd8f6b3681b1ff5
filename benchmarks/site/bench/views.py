"""The pages as coroutine views, written as Django's documentation of today tells one to."""

from __future__ import annotations

import asyncio

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse

from .data import ADDED_MESSAGE, PARALLEL, QUERIES, random_key
from .models import Fortune, World


async def json(request: HttpRequest) -> HttpResponse:
    """No database at all: what the request path itself costs."""
    return JsonResponse({"message": "Hello, World!"})


async def row(request: HttpRequest) -> HttpResponse:
    """One row by primary key."""
    world = await World.objects.aget(pk=random_key())
    return JsonResponse(world.as_json())


async def queries(request: HttpRequest) -> HttpResponse:
    """Many rows, one after another: what a query costs."""
    worlds = [await World.objects.aget(pk=random_key()) for _ in range(QUERIES)]
    return JsonResponse([world.as_json() for world in worlds], safe=False)


async def fortunes(request: HttpRequest) -> HttpResponse:
    """A small table, one row added, sorted, and rendered by a template."""
    rows = [fortune async for fortune in Fortune.objects.all()]
    rows.append(Fortune(pk=0, message=ADDED_MESSAGE))
    rows.sort(key=lambda fortune: fortune.message)
    return TemplateResponse(request, "fortunes.html", {"fortunes": rows})


async def parallel(request: HttpRequest) -> HttpResponse:
    """A few rows at the same time, or what the contender makes of it."""
    worlds = await asyncio.gather(
        *(World.objects.aget(pk=random_key()) for _ in range(PARALLEL)),
    )
    return JsonResponse([world.as_json() for world in worlds], safe=False)


@login_required
async def account(request: HttpRequest) -> HttpResponse:
    """Who is logged in: the session, the user and a template."""
    user = await request.auser()
    return TemplateResponse(request, "account.html", {"account": user})
