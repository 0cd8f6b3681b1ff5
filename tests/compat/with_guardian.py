"""Permissions for single objects: decorator, mixins in views of both colours, lists, coroutines."""

import asyncio

import site_of

site_of.configure(
    INSTALLED_APPS=["guardian"],
    AUTHENTICATION_BACKENDS=[
        "django.contrib.auth.backends.ModelBackend",
        "guardian.backends.ObjectPermissionBackend",
    ],
    LOGIN_URL="/login/",
)

from asgiref.sync import sync_to_async  # noqa: E402
from django.contrib.auth.models import Group, User  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.shortcuts import aget_object_or_404  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.generic import DetailView, ListView, View  # noqa: E402
from guardian.decorators import permission_required  # noqa: E402
from guardian.mixins import LoginRequiredMixin, PermissionListMixin  # noqa: E402
from guardian.mixins import PermissionRequiredMixin as Required  # noqa: E402
from guardian.models import UserObjectPermission  # noqa: E402
from guardian.shortcuts import assign_perm, get_objects_for_user, get_users_with_perms, remove_perm  # noqa: E402  # noqa: E402
from shop.models import Author, Book  # noqa: E402


@permission_required("shop.change_book", (Book, "pk", "pk"), return_403=True)
def decorated(request, pk):
    return HttpResponse(request.user.username)


class Sync(Required, DetailView):
    model = Book
    permission_required = "shop.change_book"
    return_403 = True

    def render_to_response(self, context):
        return HttpResponse(self.request.user.username)


class Async(LoginRequiredMixin, Required, View):
    permission_required = ("shop.change_book",)
    return_403 = True

    async def aget_permission_object(self):
        return await aget_object_or_404(Book, pk=self.kwargs["pk"])

    async def get(self, request, pk):
        return HttpResponse((await request.auser()).username)


async def coroutine(request, pk):
    book = await aget_object_or_404(Book, pk=pk)
    user = await request.auser()
    if not await sync_to_async(user.has_perm)("shop.change_book", book):
        return HttpResponse(status=403)
    return HttpResponse(user.username)


class Shelf(PermissionListMixin, ListView):
    model = Book
    permission_required = "shop.change_book"

    def render_to_response(self, context):
        return JsonResponse({"titles": [book.title for book in context["object_list"]]})


async def shelf(request):
    user = await request.auser()
    books = await sync_to_async(get_objects_for_user)(user, "shop.change_book", Book)
    return JsonResponse({"titles": [book.title async for book in books]})


def give(request, pk):
    with transaction.atomic():
        assign_perm("shop.change_book", User.objects.get(username=request.GET["to"]), Book(pk=pk))
        if "crash" in request.GET:
            raise ValueError
    return HttpResponse()


async def agive(request, pk):
    async with transaction.atomic():
        user = await User.objects.aget(username=request.GET["to"])
        book = await Book.objects.aget(pk=pk)
        await sync_to_async(assign_perm)("shop.change_book", user, book)
        assert await UserObjectPermission.objects.filter(user=user).aexists()
        if "crash" in request.GET:
            raise ValueError
    return HttpResponse()


VIEWS = {"decorated": decorated, "sync": Sync.as_view(), "async": Async.as_view(), "co": coroutine}
urlpatterns = [
    *(path(f"{name}/<int:pk>/", view) for name, view in VIEWS.items()),
    path("shelf/", Shelf.as_view()),
    path("ashelf/", shelf),
    path("give/<int:pk>/", give),
    path("agive/<int:pk>/", agive),
]


async def shelves(*names):
    """For each name a client that is signed in, and a book that is the user's own."""
    clients, books = {}, {}
    author = await Author.objects.acreate(name="Le Guin")
    for name in names:
        user = await User.objects.acreate_user(name)
        clients[name] = AsyncClient(raise_request_exception=False)
        await clients[name].aforce_login(user)
        books[name] = await Book.objects.acreate(title=f"of {name}", author=author)
        await sync_to_async(assign_perm)("shop.change_book", user, books[name])
    return clients, books


async def one_book():
    clients, books = await shelves("ada", "bob")
    ada, bob = clients["ada"], clients["bob"]
    for view in VIEWS:
        url = f"/{view}/{books['ada'].pk}/"
        response = await ada.get(url)
        assert (response.status_code, response.content) == (200, b"ada"), view
        assert (await bob.get(url)).status_code == 403, view
        assert (await bob.get(f"/{view}/0/")).status_code == 404, view
        stranger = await AsyncClient().get(url)
        if view == "async":
            assert stranger.url == f"/login/?next={url}"
        else:
            assert stranger.status_code == 403

        group = await Group.objects.acreate(name=view)
        await sync_to_async(assign_perm)("shop.change_book", group, books["ada"])
        user = await User.objects.aget(username="bob")
        await user.groups.aadd(group)
        assert (await bob.get(url)).content == b"bob"
        await sync_to_async(remove_perm)("shop.change_book", group, books["ada"])
        assert (await bob.get(url)).status_code == 403

    users = await sync_to_async(get_users_with_perms)(books["ada"])
    assert [user.username async for user in users] == ["ada"]


async def many_at_once():
    names = [f"user{number}" for number in range(5)]
    clients, books = await shelves(*names)
    asked = [
        (name, view, other)
        for name in names
        for view in VIEWS
        for other in (name, names[(names.index(name) + 1) % 5])
    ]
    pages, lists = await asyncio.gather(
        asyncio.gather(
            *(clients[name].get(f"/{view}/{books[other].pk}/") for name, view, other in asked)
        ),
        asyncio.gather(
            *(clients[name].get(url) for name in names for url in ("/shelf/", "/ashelf/"))
        ),
    )
    for (name, view, other), page in zip(asked, pages, strict=True):
        assert page.status_code == (200 if name == other else 403), (name, view, other)
        assert (page.content.decode() == name) == (name == other)
    assert [answer.json()["titles"] for answer in lists] == [
        [f"of {name}"] for name in names for _ in range(2)
    ]


async def check_given(url):
    clients, books = await shelves("ada", "bob")
    pk = books["ada"].pk
    assert (await clients["ada"].get(f"/{url}/{pk}/?to=bob&crash=1")).status_code == 500
    assert (await clients["bob"].get(f"/co/{pk}/")).status_code == 403
    assert (await clients["ada"].get(f"/{url}/{pk}/?to=bob")).status_code == 200
    assert (await clients["bob"].get(f"/co/{pk}/")).status_code == 200


async def given_in_a_transaction():
    await check_given("give")


@site_of.needs_us
async def given_in_a_transaction_of_a_coroutine():
    await check_given("agive")


site_of.run(one_book, many_at_once, given_in_a_transaction, given_in_a_transaction_of_a_coroutine)
