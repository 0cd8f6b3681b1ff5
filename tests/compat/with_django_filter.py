"""A list view with a FilterSet, as a class-based view and from a coroutine."""

import asyncio

import site_of

site_of.configure(INSTALLED_APPS=["django_filters"])

import django_filters  # noqa: E402
from asgiref.sync import sync_to_async  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from django_filters.views import FilterView  # noqa: E402
from shop.models import Author, Book  # noqa: E402


class BookFilter(django_filters.FilterSet):
    name = django_filters.CharFilter(field_name="author__name", lookup_expr="iexact")
    author = django_filters.ModelChoiceFilter(queryset=Author.objects.all())

    class Meta:
        model = Book
        fields = {"title": ["icontains"], "stock": ["gte", "lt"]}


class Books(FilterView):
    filterset_class = BookFilter
    strict = True

    def render_to_response(self, context):
        return JsonResponse({"titles": [book.title for book in context["object_list"]]})


async def books(request):
    found = BookFilter(request.GET, queryset=Book.objects.order_by("pk"))
    if not await sync_to_async(found.is_valid)():
        return JsonResponse(found.errors, status=400)
    queryset = await sync_to_async(lambda: found.qs)()
    return JsonResponse({"titles": [book.title async for book in queryset]})


urlpatterns = [path("view/", Books.as_view()), path("coroutine/", books)]


async def fill():
    author = await Author.objects.acreate(name="Le Guin")
    other = await Author.objects.acreate(name="Lem")
    await Book.objects.abulk_create(
        [
            Book(title="The Dispossessed", stock=3, author=author),
            Book(title="Solaris", stock=0, author=other),
        ]
    )
    return author


async def filters():
    author = await fill()
    client = AsyncClient()
    for url in ("/view/", "/coroutine/"):
        for query, expected in (
            ({}, ["The Dispossessed", "Solaris"]),
            ({"title__icontains": "sol"}, ["Solaris"]),
            ({"stock__gte": 1}, ["The Dispossessed"]),
            ({"name": "lem", "stock__lt": 1}, ["Solaris"]),
            ({"author": author.pk}, ["The Dispossessed"]),
        ):
            response = await client.get(url, query)
            assert sorted(response.json()["titles"]) == sorted(expected), (url, query)
    assert (await client.get("/coroutine/", {"author": 999})).status_code == 400


async def at_once():
    await fill()
    client = AsyncClient()
    answers = await asyncio.gather(
        *(client.get("/coroutine/", {"name": name}) for name in ("lem", "le guin") * 5)
    )
    assert [answer.json()["titles"] for answer in answers] == [
        ["Solaris"],
        ["The Dispossessed"],
    ] * 5


site_of.run(filters, at_once)
