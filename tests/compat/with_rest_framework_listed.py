"""View sets with permissions, transactions, limits and the browsable API, all on the loop."""

import asyncio
import threading

import site_of

WAYS = ("TokenAuthentication", "SessionAuthentication")
site_of.configure(
    INSTALLED_APPS=["rest_framework", "rest_framework.authtoken"],
    AIO={"COOPERATIVE": ["rest_framework", "__main__"]},
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [f"rest_framework.authentication.{way}" for way in WAYS],
        "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
        "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
        "DEFAULT_THROTTLE_RATES": {"user": "3/hour"},
    },
)

from django.contrib.auth.models import Permission, User  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.db import transaction  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import include, path  # noqa: E402
from rest_framework import generics, permissions, serializers, viewsets  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402
from rest_framework.decorators import action, api_view  # noqa: E402
from rest_framework.exceptions import APIException  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.routers import DefaultRouter  # noqa: E402
from shop.models import Author, Book  # noqa: E402

NAMES = [f"user{number}" for number in range(8)]


class SoldOut(APIException):
    status_code = 409
    default_detail = "sold out"


class BookSerializer(serializers.ModelSerializer):
    class Meta:
        model = Book
        fields = ("id", "title", "stock", "author")


class AuthorSerializer(serializers.ModelSerializer):
    books = BookSerializer(many=True, read_only=True)
    on_loop = serializers.SerializerMethodField()

    class Meta:
        model = Author
        fields = ("id", "name", "books", "on_loop")

    def get_on_loop(self, author):
        return threading.current_thread() is threading.main_thread()


class Authors(viewsets.ModelViewSet):
    queryset = Author.objects.order_by("pk")
    serializer_class = AuthorSerializer
    permission_classes = (permissions.DjangoModelPermissionsOrAnonReadOnly,)


class Books(viewsets.ModelViewSet):
    queryset = Book.objects.order_by("pk")
    serializer_class = BookSerializer
    permission_classes = (permissions.IsAuthenticated,)

    @action(detail=True, methods=["post"])
    def buy(self, request, pk):
        """The buyer is written first, and must not stay when the book is sold out."""
        with transaction.atomic():
            Author.objects.create(name=f"buyer {request.user.username}")
            book = Book.objects.select_for_update().get(pk=pk)
            if not book.stock:
                raise SoldOut
            Book.objects.filter(pk=pk).update(stock=book.stock - 1)
        return Response({"buyer": request.user.username})


class Mine(generics.ListAPIView):
    serializer_class = AuthorSerializer

    async def get_queryset(self):
        names = [author.name async for author in Author.objects.filter(books__stock__gt=0)]
        return Author.objects.filter(name__in=names)


@api_view()
def count(request):
    return Response({"books": Book.objects.count(), "user": request.user.username})


router = DefaultRouter()
router.register("authors", Authors)
router.register("books", Books)
urlpatterns = [path("api/", include(router.urls)), path("mine/", Mine.as_view())]
urlpatterns += [path("count/", count)]


async def fill(*names):
    """A book with three copies, and the headers of a client of each name."""
    cache.clear()
    author = await Author.objects.acreate(name="Lem")
    book = await Book.objects.acreate(title="Solaris", stock=3, author=author)
    headers = []
    for name in names:
        token = await Token.objects.acreate(user=await User.objects.acreate_user(name))
        headers.append({"authorization": f"Token {token.key}", "accept": "application/json"})
    return book, headers


async def nested():
    book, (headers,) = await fill("ann")
    client, one = AsyncClient(), f"/api/authors/{book.author_id}/"
    found = (await client.get(one)).json()
    expected = {"id": book.pk, "title": "Solaris", "stock": 3, "author": found["id"]}
    assert found["books"] == [expected]
    asked = {"headers": headers, "content_type": "application/json"}
    assert (await client.patch(one, {"name": "new"})).status_code == 401
    assert (await client.patch(one, {"name": "new"}, **asked)).status_code == 403
    user = await User.objects.aget()
    await user.user_permissions.aadd(await Permission.objects.aget(codename="change_author"))
    assert (await client.patch(one, {"name": "new"}, **asked)).json()["name"] == "new"
    assert (await client.get("/api/authors/?limit=1&offset=1")).json()["count"] == 1


async def last_copies():
    """Eight buy at once, three get a copy: each transaction is whole."""
    book, headers = await fill(*NAMES)
    url = f"/api/books/{book.pk}/buy/"
    answers = await asyncio.gather(*(AsyncClient().post(url, headers=each) for each in headers))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [409] * 5
    sold = [name for name, a in zip(NAMES, answers, strict=True) if a.status_code == 200]
    assert [a.json()["buyer"] for a in answers if a.status_code == 200] == sold
    buyers = Author.objects.filter(name__startswith="buyer").values_list("name", flat=True)
    assert sorted([name async for name in buyers]) == [f"buyer {name}" for name in sold]
    await book.arefresh_from_db()
    assert book.stock == 0


async def limits():
    """Three visits an hour for each."""
    _, headers = await fill(*NAMES[:3])
    for status in (200, 200, 200, 429):
        answers = await asyncio.gather(
            *(AsyncClient().get("/count/", headers=each) for each in headers)
        )
        assert {answer.status_code for answer in answers} == {status}
        if status == 200:
            assert [answer.json()["user"] for answer in answers] == NAMES[:3]


async def browsable():
    await fill("ann")
    client = AsyncClient()
    await client.aforce_login(await User.objects.aget())
    page = (await client.get("/api/books/", headers={"accept": "text/html"})).content.decode()
    for part in ("<h1>Books List</h1>", ">Lem</option>", "Solaris", "ann"):
        assert part in page, part


@site_of.needs_us
async def on_the_loop():
    await fill()
    await Author.objects.acreate(name="nobody")
    for url, count in (("/api/authors/?limit=9", 2), ("/mine/?limit=9", 1)):
        found = (await AsyncClient().get(url)).json()["results"]
        assert [author["on_loop"] for author in found] == [True] * count


site_of.run(nested, last_copies, limits, browsable, on_the_loop)
