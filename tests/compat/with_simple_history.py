"""A model with a history: who changed it, in views of both colours, at once, and in the admin."""

import asyncio

import site_of

site_of.configure(
    INSTALLED_APPS=["django.contrib.admin", "simple_history"],
    MIDDLEWARE=[*site_of.MIDDLEWARE, "simple_history.middleware.HistoryRequestMiddleware"],
    # The model below has no migration, and what has none must not refer to what has.
    MIGRATION_MODULES={"auth": None, "contenttypes": None},
)

from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.db import models, transaction  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from simple_history.admin import SimpleHistoryAdmin  # noqa: E402
from simple_history.models import HistoricalRecords  # noqa: E402


class Note(models.Model):
    text = models.CharField(max_length=50)
    history = HistoricalRecords()

    class Meta:
        app_label = "shop"


admin.site.register(Note, SimpleHistoryAdmin)

together = {}


def plain(request):
    note = Note.objects.create(text="first")
    note.text = request.GET["text"]
    note.save()
    return JsonResponse({"note": note.pk})


def undone(request):
    with transaction.atomic():
        Note.objects.create(text="never there")
        raise ValueError("undone")


async def coroutine(request):
    note = await Note.objects.acreate(text="first")
    if "all" in together:
        await together["all"].wait()
    note.text = request.GET["text"]
    await note.asave()
    return JsonResponse({"note": note.pk})


async def children(request):
    """Two tasks of one request."""
    notes = await asyncio.gather(*(Note.objects.acreate(text=text) for text in "ab"))
    return JsonResponse({"notes": [note.pk for note in notes]})


async def undone_coroutine(request):
    async with transaction.atomic():
        note = await Note.objects.acreate(text="never there")
        assert await note.history.acount() == 1
        raise ValueError("undone")


urlpatterns = [
    path("plain/", plain),
    path("coroutine/", coroutine),
    path("children/", children),
    path("undone/", undone),
    path("undone/coroutine/", undone_coroutine),
    path("admin/", admin.site.urls),
]


async def visitor(name, **more):
    client = AsyncClient(raise_request_exception=False)
    await client.aforce_login(await User.objects.acreate_user(name, **more))
    return client


async def versions(pk):
    """The history of one note, oldest first."""
    found = Note.history.filter(id=pk).order_by("history_id")
    return [
        entry async for entry in found.values_list("history_type", "text", "history_user__username")
    ]


async def who_changed_it():
    ada = await visitor("ada")
    for url in ("/plain/", "/coroutine/"):
        pk = (await ada.get(url, {"text": "second"})).json()["note"]
        assert await versions(pk) == [("+", "first", "ada"), ("~", "second", "ada")], url
        pk = (await AsyncClient().get(url, {"text": "second"})).json()["note"]
        assert await versions(pk) == [("+", "first", None), ("~", "second", None)], url

    note = await Note.objects.aget(pk=pk)  # outside of a request there is nobody
    await note.adelete()
    assert await versions(pk) == [
        ("+", "first", None),
        ("~", "second", None),
        ("-", "second", None),
    ]
    for pk in (await ada.get("/children/")).json()["notes"]:
        assert [user for _, _, user in await versions(pk)] == ["ada"]


async def many_at_once():
    names = [f"user{number}" for number in range(8)]
    clients = [await visitor(name) for name in names]
    for url in ("/plain/", "/coroutine/"):
        together["all"] = asyncio.Barrier(len(names))  # nobody goes on before all have begun
        answers = await asyncio.gather(
            *(client.get(url, {"text": name}) for client, name in zip(clients, names, strict=True))
        )
        for name, answer in zip(names, answers, strict=True):
            assert await versions(answer.json()["note"]) == [
                ("+", "first", name),
                ("~", name, name),
            ]
        del together["all"]
    mixed = await asyncio.gather(
        *(
            client.get(url, {"text": name})
            for client, name in zip(clients, names, strict=True)
            for url in ("/plain/", "/coroutine/")
        )
    )
    for number, answer in enumerate(mixed):
        assert {user for _, _, user in await versions(answer.json()["note"])} == {
            names[number // 2]
        }


async def undone_with_its_history():
    ada, bob = await visitor("ada"), await visitor("bob")
    assert (await ada.get("/undone/")).status_code == 500
    assert await Note.history.acount() == 0
    pk = (await bob.get("/plain/", {"text": "bob's"})).json()["note"]
    assert {user for _, _, user in await versions(pk)} == {"bob"}


@site_of.needs_us
async def undone_in_a_coroutine():
    ada, bob = await visitor("ada"), await visitor("bob")
    failed, answer = await asyncio.gather(
        ada.get("/undone/coroutine/"), bob.get("/coroutine/", {"text": "bob's"})
    )
    assert failed.status_code == 500
    assert await Note.history.acount() == 2
    assert {user for _, _, user in await versions(answer.json()["note"])} == {"bob"}


async def in_the_admin():
    boss = await visitor("boss", is_staff=True, is_superuser=True)
    ada = await visitor("ada")
    pk = (await ada.get("/plain/", {"text": "second"})).json()["note"]
    response = await boss.post(f"/admin/shop/note/{pk}/change/", {"text": "third"})
    assert response.status_code == 302, response.status_code
    assert await versions(pk) == [
        ("+", "first", "ada"),
        ("~", "second", "ada"),
        ("~", "third", "boss"),
    ]

    page = (await boss.get(f"/admin/shop/note/{pk}/history/")).content.decode()
    assert page.count("ada") >= 2
    assert "boss" in page
    old = await Note.history.filter(id=pk).order_by("history_id").afirst()
    url = f"/admin/shop/note/{pk}/history/{old.pk}/"
    assert 'value="first"' in (await boss.get(url)).content.decode()
    assert (await boss.post(url, {"text": "first"})).status_code == 302
    assert (await Note.objects.aget(pk=pk)).text == "first"
    assert (await versions(pk))[-1] == ("~", "first", "boss")
    assert (await ada.get(url)).status_code == 302  # no member of the staff
    assert (await boss.get(f"/admin/shop/note/{pk}/history/0/")).status_code == 404


site_of.run(
    who_changed_it, many_at_once, undone_with_its_history, undone_in_a_coroutine, in_the_admin
)
