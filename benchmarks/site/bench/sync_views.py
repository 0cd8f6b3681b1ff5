"""The same pages as synchronous views: what a WSGI project would write."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse

from .data import ADDED_MESSAGE, PARALLEL, QUERIES, random_key
from .models import Fortune, World


def json(request: HttpRequest) -> HttpResponse:
    """No database at all: what the request path itself costs."""
    return JsonResponse({"message": "Hello, World!"})


def row(request: HttpRequest) -> HttpResponse:
    """One row by primary key."""
    return JsonResponse(World.objects.get(pk=random_key()).as_json())


def queries(request: HttpRequest) -> HttpResponse:
    """Many rows, one after another: what a query costs."""
    return _rows(QUERIES)


def fortunes(request: HttpRequest) -> HttpResponse:
    """A small table, one row added, sorted, and rendered by a template."""
    rows = list(Fortune.objects.all())
    rows.append(Fortune(pk=0, message=ADDED_MESSAGE))
    rows.sort(key=lambda fortune: fortune.message)
    return TemplateResponse(request, "fortunes.html", {"fortunes": rows})


def parallel(request: HttpRequest) -> HttpResponse:
    """As many rows as the coroutine view gathers: here they can only come one after another."""
    return _rows(PARALLEL)


def _rows(count: int) -> HttpResponse:
    worlds = [World.objects.get(pk=random_key()) for _ in range(count)]
    return JsonResponse([world.as_json() for world in worlds], safe=False)


@login_required
def account(request: HttpRequest) -> HttpResponse:
    """Who is logged in: the session, the user and a template."""
    return TemplateResponse(request, "account.html", {"account": request.user})
