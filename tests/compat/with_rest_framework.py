"""View sets with tokens, throttling, pages and the browsable API, in a thread as by default."""

import asyncio

import site_of

WAYS = ("TokenAuthentication", "SessionAuthentication")
site_of.configure(
    INSTALLED_APPS=["rest_framework", "rest_framework.authtoken"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [f"rest_framework.authentication.{way}" for way in WAYS],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
        "DEFAULT_THROTTLE_RATES": {"few": "2/hour"},
        "PAGE_SIZE": 2,
    },
)

from asgiref.sync import sync_to_async  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import include, path  # noqa: E402
from rest_framework import serializers, throttling, viewsets  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402
from rest_framework.authtoken.views import obtain_auth_token  # noqa: E402
from rest_framework.decorators import action  # noqa: E402
from rest_framework.filters import OrderingFilter, SearchFilter  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.routers import DefaultRouter  # noqa: E402
from shop.models import Author, Book  # noqa: E402


class BookSerializer(serializers.ModelSerializer):
    author = serializers.CharField(source="author.name")

    class Meta:
        model = Book
        fields = ("id", "title", "stock", "author")

    def create(self, validated):
        """The author is written first, and must not stay when the book is refused."""
        with transaction.atomic():
            author = Author.objects.create(name=validated.pop("author")["name"])
            if validated["stock"] < 0:
                raise serializers.ValidationError({"stock": "below zero"})
            return Book.objects.create(author=author, **validated)


class Few(throttling.UserRateThrottle):
    scope = "few"


class Books(viewsets.ModelViewSet):
    queryset = Book.objects.select_related("author").order_by("pk")
    serializer_class = BookSerializer
    filter_backends = (SearchFilter, OrderingFilter)
    search_fields = ("title", "author__name")

    @action(detail=False, throttle_classes=[Few])
    def whoami(self, request):
        return Response({"name": request.user.username, "token": str(request.auth)})


async def books(request):
    serializer = BookSerializer(data=request.GET.dict())
    if not await sync_to_async(serializer.is_valid)():
        return JsonResponse(serializer.errors, status=400)
    await sync_to_async(serializer.save)()
    found = [book async for book in Books.queryset.all()]
    data = BookSerializer(found, many=True).data
    return JsonResponse({"all": data, "user": (await request.auser()).username})


router = DefaultRouter()
router.register("books", Books)
urlpatterns = [
    path("api/", include(router.urls)),
    path("token/", obtain_auth_token),
    path("books/", books),
]


async def log_in(name):
    """Make a user, and the headers with the token that was asked for."""
    await User.objects.acreate_user(name, password="secret")
    answer = await AsyncClient().post("/token/", {"username": name, "password": "secret"})
    return {"authorization": f"Token {answer.json()['token']}", "accept": "application/json"}


async def crud():
    client, headers = AsyncClient(), await log_in("ann")
    data = {"title": "Solaris", "stock": 3, "author": "Lem"}
    asked = {"headers": headers, "content_type": "application/json"}
    for title in ("Solaris", "Eden", "Fiasco"):
        made = await client.post("/api/books/", {**data, "title": title}, **asked)
        assert made.status_code == 201, made.content
    one = f"/api/books/{made.json()['id']}/"
    assert (await client.put(one, {**data, "title": ""}, **asked)).json().keys() == {"title"}
    assert (await client.patch(one, {"stock": 9}, **asked)).json()["stock"] == 9
    page = (await client.get("/api/books/?ordering=title&search=lem", headers=headers)).json()
    assert (page["count"], [book["title"] for book in page["results"]]) == (3, ["Eden", "Fiasco"])
    page = (await client.get(page["next"], headers=headers)).json()
    assert [book["title"] for book in page["results"]] == ["Solaris"]
    assert (await client.delete(one, headers=headers)).status_code == 204
    assert (await client.get(one, headers=headers)).status_code == 404
    refused = await client.post("/api/books/", {**data, "stock": -1}, **asked)
    assert (refused.status_code, refused.json()) == (400, {"stock": "below zero"})
    assert (await Book.objects.acount(), await Author.objects.acount()) == (2, 3)


async def strangers():
    client = AsyncClient()
    answer = await client.get("/api/books/")
    assert (answer.status_code, answer["www-authenticate"]) == (401, "Token")
    answer = await client.get("/api/books/", headers={"authorization": "Token wrong"})
    assert answer.json() == {"detail": "Invalid token."}
    headers = await log_in("ann")
    await User.objects.filter(username="ann").aupdate(is_active=False)
    assert (await client.get("/api/books/", headers=headers)).status_code == 401


async def many_users():
    """Each request has the user of its own token, and a limit of its own."""
    cache.clear()
    names = [f"user{number}" for number in range(6)]
    everybody = await asyncio.gather(*(log_in(name) for name in names))
    keys = dict([pair async for pair in Token.objects.values_list("user__username", "key")])
    for status in (200, 200, 429):
        answers = await asyncio.gather(
            *(AsyncClient().get("/api/books/whoami/", headers=headers) for headers in everybody)
        )
        assert [answer.status_code for answer in answers] == [status] * 6
        if status == 200:
            said = [answer.json() for answer in answers]
            assert said == [{"name": name, "token": keys[name]} for name in names]
    assert int(answers[0]["retry-after"]) > 3000


async def browsable():
    """Pages with forms for who has a session; a POST needs the token of the form."""
    client = AsyncClient(enforce_csrf_checks=True)
    await client.aforce_login(await User.objects.acreate_user("ann"))
    author = await Author.objects.acreate(name="Lem & Co")
    await Book.objects.acreate(title="Solaris", author=author)
    page = await client.get("/api/books/", headers={"accept": "text/html"})
    text = page.content.decode()
    assert page["content-type"].startswith("text/html")
    for part in ("<h1>Books List</h1>", "Lem &amp; Co", 'name="title"', "ann"):
        assert part in text, part
    data = {"title": "Eden", "stock": 1, "author": "Lem", "_content": ""}
    refused = await client.post("/api/books/", data, headers={"accept": "text/html"})
    assert refused.status_code == 403
    assert "CSRF" in refused.content.decode()
    token = client.cookies["csrftoken"].value
    made = await client.post("/api/books/", {**data, "csrfmiddlewaretoken": token})
    assert (made.status_code, made.json()["title"]) == (201, "Eden")


async def beside_a_coroutine():
    client = AsyncClient()
    await client.aforce_login(await User.objects.acreate_user("ann"))
    answers = await asyncio.gather(
        *(client.get("/books/", {"title": t, "stock": 1, "author": t}) for t in "abcd")
    )
    assert sorted(len(answer.json()["all"]) for answer in answers)[-1] == 4
    assert {answer.json()["user"] for answer in answers} == {"ann"}
    assert (await client.get("/books/", {"title": "x"})).status_code == 400
    assert await Author.objects.acount() == 4


site_of.run(crud, strangers, many_users, browsable, beside_a_coroutine)
