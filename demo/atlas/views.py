"""The pages of the atlas. All views are coroutines.

A view either awaits its queries, or hands lazy querysets to a TemplateResponse: the template then
runs them while it is rendered, on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Count, QuerySet, Sum
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import aget_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods, require_safe

from . import feed
from .aio import run
from .forms import MAX_LATENCY, NoteForm, SearchForm, WaterfallForm
from .models import City, Continent, Country, Note
from .notes import add_note, local_time
from .waterfall import Waterfall, duration
from .worldmap import position

PAGE_SIZE = 20
NOTES_SHOWN = 6


@require_safe
async def front(request: HttpRequest) -> HttpResponse:
    """The front page. No query has run when this returns: the template asks for all of them."""
    context = {
        "form": SearchForm(),
        "all_cities": City.objects.all(),
        "largest": City.objects.listed()[:12],
        "continents": Continent.objects.annotate(
            countries=Count("country"), people=Sum("country__population")
        ).order_by("name"),
        "notes": latest_notes()[:NOTES_SHOWN],
    }
    return TemplateResponse(request, "atlas/front.html", context)


@require_safe
async def search(request: HttpRequest) -> HttpResponse:
    """Cities by name. What cannot be searched for is answered with 400 and the reason."""
    form = SearchForm(request.GET)
    if not form.is_valid():
        return TemplateResponse(request, "atlas/search.html", {"form": form}, status=400)
    context: dict[str, Any] = {"form": form}
    if query := form.cleaned_data["q"]:
        paginator = Paginator(City.objects.listed().matching(query), PAGE_SIZE)
        # get_page() answers a page number that makes no sense with the first or the last page.
        page = await run(paginator.get_page, request.GET.get("page"))
        context |= {"query": query, "page": page}
    return TemplateResponse(request, "atlas/search.html", context)


@require_safe
async def countries(request: HttpRequest) -> HttpResponse:
    """All countries, grouped by continent in the template."""
    everything = Country.objects.select_related("continent").order_by("continent__name", "name")
    return TemplateResponse(request, "atlas/countries.html", {"countries": everything})


@require_safe
async def country(request: HttpRequest, code: str) -> HttpResponse:
    """One country by six queries, at the same time or one after another."""
    form = WaterfallForm(request.GET)
    if not form.is_valid():
        raise BadRequest(f"mode: parallel or sequential; latency: 0 to {MAX_LATENCY} (ms)")
    mode = form.cleaned_data["mode"] or "parallel"
    latency = form.cleaned_data["latency"] or 0
    waterfall = Waterfall(latency)
    queries = country_queries(code.upper()).items()
    if mode == "parallel":
        answers = await asyncio.gather(*(waterfall.record(*query) for query in queries))
    else:
        answers = [await waterfall.record(*query) for query in queries]
    names = ("country", "largest", "totals", "neighbours", "timezones", "notes")
    context = dict(zip(names, answers, strict=True))
    if context["country"] is None:
        raise Http404("No country has this code.")
    context |= {
        "mode": mode,
        "latency": latency,
        "latencies": (0, 20, 100),
        "can_sleep": connection.vendor == "postgresql",
        "waterfall": waterfall,
        "total_time": duration(waterfall.total),
        "summed_time": duration(waterfall.summed),
    }
    return TemplateResponse(request, "atlas/country.html", context)


def country_queries(code: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """The six queries of a country page, by the label that they get in the picture.

    They are functions and not coroutines: a visitor who leaves in the middle would leave coroutines
    behind that nobody awaits.

    None of them fails if there is no such country: were one task of a gather to raise, the other
    five would go on for nobody.
    """
    cities = City.objects.filter(country=code)
    return {
        "Country": Country.objects.select_related("continent", "capital").filter(pk=code).afirst,
        "Largest cities": partial(fetched, cities.listed()[:10]),
        "Totals": partial(cities.aaggregate, cities=Count("pk"), people=Sum("population")),
        "Neighbours": partial(fetched, Country.objects.filter(neighbours=code)),
        "Time zones": partial(
            fetched,
            cities.values("timezone").annotate(cities=Count("pk")).order_by("-cities", "timezone"),
        ),
        "Latest notes": partial(fetched, latest_notes().filter(city__country=code)[:NOTES_SHOWN]),
    }


async def fetched(queryset: QuerySet[Any, Any]) -> list[Any]:
    """The rows of a queryset, so that a queryset can be one task of a gather."""
    return [row async for row in queryset]


def latest_notes() -> QuerySet[Note]:
    return Note.objects.select_related("author", "city__country").defer(
        "city__alternate_names", "city__search"
    )


@require_http_methods(["GET", "HEAD", "POST"])
async def city(request: HttpRequest, pk: int) -> HttpResponse:
    """One city with its notes, and the form for another one."""
    place = await aget_object_or_404(City.objects.select_related("country"), pk=pk)
    user = await request.auser()
    form = NoteForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        if not user.is_authenticated:
            return redirect_to_login(place.get_absolute_url())
        form.instance.city, form.instance.author = place, user
        if form.is_valid():
            await add_note(form.instance)
            messages.success(request, f"Your note on {place.name} is saved.")
            return redirect(place)
    x, y = position(place.longitude, place.latitude)
    context = {
        "city": place,
        "form": form,
        "user": user,  # so that the template need not load it once more
        "local_time": local_time(place.timezone),
        "map_x": f"{100 * x:.2f}",
        "map_y": f"{100 * y:.2f}",
        "notes": place.notes.select_related("author")[:50],
    }
    status = 400 if form.errors else 200
    return TemplateResponse(request, "atlas/city.html", context, status=status)


@require_safe
async def api_city(request: HttpRequest, pk: int) -> JsonResponse:
    """One city as JSON."""
    place = await City.objects.listed().filter(pk=pk).afirst()
    if place is None:
        return JsonResponse({"error": "No city has this number."}, status=404)
    return JsonResponse(
        {
            "id": place.pk,
            "name": place.name,
            "country": {"code": place.country_id, "name": place.country.name},
            "population": place.population,
            "latitude": place.latitude,
            "longitude": place.longitude,
            "timezone": place.timezone,
        }
    )


@require_safe
async def notes_feed(request: HttpRequest) -> HttpResponseBase:
    """New notes as server-sent events, for as long as the client listens."""
    last_seen = request.headers.get("Last-Event-ID", "")
    response = StreamingHttpResponse(
        # A number of 19 digits could exceed what a database column holds; no note has one.
        feed.stream(int(last_seen) if last_seen.isdecimal() and len(last_seen) < 19 else None),
        content_type="text/event-stream",
    )
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"  # nginx would hold the events back
    return response
