"""Export and import of rows through the admin, by many at once, and from a coroutine."""

import asyncio
import json
import re

import site_of

site_of.configure(INSTALLED_APPS=["django.contrib.admin", "import_export"])

from asgiref.sync import sync_to_async  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.contrib.admin.models import LogEntry  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.exceptions import ValidationError  # noqa: E402
from django.core.files.uploadedfile import SimpleUploadedFile  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from import_export import fields, resources, widgets  # noqa: E402
from import_export.admin import ImportExportModelAdmin  # noqa: E402
from import_export.formats.base_formats import CSV  # noqa: E402
from shop.models import Author, Book  # noqa: E402
from tablib import Dataset  # noqa: E402


class BookResource(resources.ModelResource):
    author = fields.Field("author", "author", widgets.ForeignKeyWidget(Author, "name"))

    class Meta:
        model = Book
        import_id_fields = ("title",)
        fields = ("title", "stock", "author")

    def before_import_row(self, row, user=None, **kwargs):
        row["author"] = row["author"] or f"imported by {user.username}"
        Author.objects.get_or_create(name=row["author"])

    def after_save_instance(self, instance, row, **kwargs):
        if instance.stock < 0:
            raise ValidationError("There cannot be less than none.")


@admin.register(Book)
class BookAdmin(ImportExportModelAdmin):
    resource_classes = (BookResource,)
    formats = (CSV,)
    search_fields = ("title",)


async def download(request):
    books = Book.objects.filter(title__contains=request.GET.get("q", "")).order_by("pk")
    dataset = await sync_to_async(BookResource().export)(queryset=books)
    return HttpResponse(dataset.csv, content_type="text/csv")


async def upload(request):
    dataset = Dataset().load(request.body.decode(), format="csv")
    user = await request.auser()
    result = await sync_to_async(BookResource().import_data)(dataset, user=user)
    return JsonResponse({**result.totals, "faulty": result.has_validation_errors()})


async def all_or_nothing(request):
    async with transaction.atomic():
        response = await upload(request)
        if json.loads(response.content)["faulty"]:
            raise ValueError
    return response


urlpatterns = [
    path("download/", download),
    path("upload/", upload),
    path("upload/atomic/", all_or_nothing),
    path("admin/", admin.site.urls),
]


async def member(name):
    client = AsyncClient(raise_request_exception=False)
    await client.aforce_login(await User.objects.acreate_superuser(name))
    return client


async def send(client, text):
    """Send a file, look at the preview, confirm it."""
    file = SimpleUploadedFile("books.csv", text.encode())
    preview = await client.post(
        "/admin/shop/book/import/", {"import_file": file, "format": "0", "resource": ""}
    )
    assert preview.status_code == 200
    confirm = preview.content.decode().partition("process_import")[2]
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', confirm))
    if not hidden:
        return preview
    # A task of its own, as under a server: import_export's cursor keeps the task's connection.
    await asyncio.create_task(client.post("/admin/shop/book/process_import/", hidden))
    return await client.get("/admin/shop/book/")


async def shelf():
    books = Book.objects.order_by("pk")
    return [row async for row in books.values_list("title", "stock", "author__name")]


async def import_and_export():
    ada = await member("ada")
    page = await send(ada, "title,stock,author\nSolaris,1,Lem\nUbik,2,\n")
    assert "Import finished: 2 new, 0 updated" in page.content.decode()
    assert await shelf() == [("Solaris", 1, "Lem"), ("Ubik", 2, "imported by ada")]
    page = await send(ada, "title,stock,author\nSolaris,7,Lem\n")
    assert "Import finished: 0 new, 1 updated" in page.content.decode()
    entries = LogEntry.objects.filter(user__username="ada").order_by("pk")
    assert [entry.object_repr async for entry in entries] == ["Solaris", "Ubik", "Solaris"]

    url = "/admin/shop/book/export/"
    columns = {"bookresource_title": "on", "bookresource_stock": "on"}
    response = await ada.post(f"{url}?q=sol", {"format": "0", "resource": "", **columns})
    assert response.headers["Content-Disposition"].startswith('attachment; filename="Book-')
    assert response.content.decode().split() == ["title,stock", "Solaris,7"]
    assert (await AsyncClient().post(url, {"format": "0"})).status_code == 302


async def refused():
    """Not a single row is imported when one of them is faulty."""
    ada = await member("ada")
    page = await send(ada, "title,stock,author\nSolaris,1,Lem\nUbik,-1,Dick\n")
    assert "There cannot be less than none." in page.content.decode()
    page = await send(ada, "title,stock,author\nSolaris,many,Lem\n")
    assert "Confirm import" not in page.content.decode()
    assert await shelf() == []
    assert not await Author.objects.aexists()
    assert not await LogEntry.objects.aexists()


async def many_at_once():
    clients = {name: await member(name) for name in ("ada", "bob", "eve", "joe", "kim")}
    wrong = "title,stock,author\nFine,1,Fine\nWrong,-1,Wrong\n"
    pages = await asyncio.gather(*(send(client, wrong) for client in clients.values()))
    for name, client in clients.items():
        # One import at a time: on PostgreSQL it sets the sequence, which two cannot do at once.
        rows = f"title,stock,author\nA {name},1,\nB {name},1,\n"
        pages.append(await send(client, rows))
    assert ["less than none" in page.content.decode() for page in pages] == [True] * 5 + [False] * 5
    own = {(name, f"{letter} {name}") for name in clients for letter in "AB"}
    assert set(await shelf()) == {(title, 1, f"imported by {name}") for name, title in own}
    entries = LogEntry.objects.values_list("user__username", "object_repr")
    assert sorted([entry async for entry in entries]) == sorted(own)


async def post(client, url, text):
    return await client.post(url, text, content_type="text/csv")


async def from_a_coroutine():
    ada = await member("ada")
    response = await post(ada, "/upload/", "title,stock,author\nUbik,2,\n")
    assert response.json()["new"] == 1
    response = await post(ada, "/upload/", "title,stock,author\nUbik,3,\nSolaris,-1,Lem\n")
    assert response.json()["faulty"] is True
    assert ("Ubik", 3, "imported by ada") in await shelf()
    file = (await ada.get("/download/?q=Ubik")).content.decode()
    assert file.splitlines() == ["title,stock,author", "Ubik,3,imported by ada"]


@site_of.needs_us
async def in_a_transaction_of_a_coroutine():
    ada = await member("ada")
    url = "/upload/atomic/"
    faulty = await post(ada, url, "title,stock,author\nUbik,2,Dick\nSolaris,-1,Lem\n")
    good = await post(ada, url, "title,stock,author\nEden,3,Lem\n")
    assert (faulty.status_code, good.status_code) == (500, 200)
    assert await shelf() == [("Eden", 3, "Lem")]


site_of.run(
    import_and_export, refused, many_at_once, from_a_coroutine, in_a_transaction_of_a_coroutine
)
