"""The examples of docs/views.rst and docs/admin.rst, run."""

import asyncio

from asgi import Client
from django.contrib import admin
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.template.response import TemplateResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import path
from django.views.generic import ListView, UpdateView
from doc_tables import examples
from staying import urlconf
from testapp.models import Author, Book

from django_aio import cooperative, run

TOKEN = "t" * 32
told = []


async def tell(what):
    await asyncio.sleep(0)
    told.append(str(what))
    return told


def namespace():
    told.clear()
    names = {
        "__name__": __name__,
        "run": run,
        "path": path,
        "Author": Author,
        "Book": Book,
        "admin": admin,
    }
    functions = dict.fromkeys(("tell_subscribers", "send_reminder"), tell)
    views = {"ListView": ListView, "UpdateView": UpdateView}
    mixins = {"LoginRequiredMixin": LoginRequiredMixin, "TemplateResponse": TemplateResponse}
    return {**names, **functions, **views, **mixins, "fetch_rates": lambda: tell("rates")}


async def client_of(user):
    browser, client = DjangoClient(), Client()
    await run(browser.force_login, user)
    client.cookies.update(browser.cookies)
    client.cookies["csrftoken"] = TOKEN
    return client


async def prepared():
    author = await Author.objects.acreate(name="admin")
    book = await Book.objects.acreate(title="Emma", author=author)
    await book.readers.aadd(author)
    await Book.objects.acreate(title="Unread", author=author)
    user = await User.objects.acreate_superuser("admin")
    return user, author, book


def templates(**sources):
    loaders = [("django.template.loaders.locmem.Loader", sources)]
    backend = "django.template.backends.django.DjangoTemplates"
    return [{"BACKEND": backend, "OPTIONS": {"loaders": loaders}}]


async def test_views(db):
    user, _, book = await prepared()
    names = namespace()
    for source in examples("views.rst")[:2]:
        exec(source, names)
    shelf, edit = cooperative(names["Shelf"]), cooperative(names["Edit"])
    patterns = urlconf(
        path("shelf/", shelf.as_view(template_name="page")),
        path("edit/<int:pk>/", edit.as_view(template_name="page", success_url="/done/")),
    )
    page = "{% for book in book_list %}{{ book }}{% endfor %} {{ rates }} {{ form.title }}"
    with override_settings(ROOT_URLCONF=patterns, TEMPLATES=templates(page=page)):
        assert (await Client().get("/shelf/")).status == 302
        client = await client_of(user)
        text = (await client.get("/shelf/")).text
        assert text.startswith("Emma [")
        assert 'value="Emma"' in (await client.get(f"/edit/{book.pk}/")).text
        assert (await client.post(f"/edit/{book.pk}/", {"title": "Persuasion"})).status == 302
    assert told[-1] == "Persuasion"


async def test_admin(db, monkeypatch):
    user, author, _ = await prepared()
    site = admin.AdminSite()
    monkeypatch.setattr(
        admin, "register", lambda model: lambda cls: site.register(model, cooperative(cls)) or cls
    )
    exec(examples("admin.rst")[0], namespace())
    patterns = urlconf(path("admin/", (site.get_urls(), "admin", site.name)))
    authors = "/admin/testapp/author/"
    with override_settings(ROOT_URLCONF=patterns, STATIC_URL="/static/"):
        client = await client_of(user)
        text = (await client.get(authors)).text
        assert '<td class="field-books">2</td>' in text
        assert "Send a reminder" in text
        posted = {"action": "remind", "_selected_action": author.pk}
        assert (await client.post(authors, posted)).status == 302
        assert told == ["admin"]
        changed = {"name": "Jane", "born": "1775"}
        assert (await client.post(f"{authors}{author.pk}/change/", changed)).status == 302
        assert told[-1] == "Jane"
        report = override_settings(TEMPLATES=templates(**{"report.html": "{{ books }} books"}))
        with report:
            assert (await client.get(f"{authors}report/")).text == "2 books"
