"""A schema for each tenant by django-tenants, many tenants at once in views of both colours."""

import asyncio
import contextlib
import io
import os
import sys
import tempfile
import types
from pathlib import Path

if os.environ.get("TEST_DB") != "postgresql":
    print("django-tenants works with PostgreSQL only: nothing to run.")
    print("ok")
    sys.exit()

import site_of
from django.apps import AppConfig

directory = tempfile.TemporaryDirectory()
sys.path.insert(0, directory.name)
MIGRATION = """
from django.apps import apps
from django.db import migrations
from django.db.migrations.state import ModelState

class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(state.name, list(state.fields.items()))
        for state in map(ModelState.from_model, apps.get_app_config("{app}").get_models())
    ]
"""
for app in ("shop", "tenancy"):
    package = Path(directory.name, f"{app}_migrations")
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "0001_initial.py").write_text(MIGRATION.replace("{app}", app))


class Tenancy(AppConfig):
    name = "__main__"
    label = "tenancy"
    path = directory.name


urls = sys.modules["public_urls"] = types.ModuleType("public_urls")
SHARED = ["django_tenants", "__main__.Tenancy"]
site_of.configure(
    INSTALLED_APPS=SHARED,
    DATABASES={
        "default": {**site_of.database(), "ENGINE": "django_tenants.postgresql_backend"},
    },
    DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"],
    LOGGING={"version": 1, "loggers": {"django.request": {"level": "CRITICAL"}}},
    MIDDLEWARE=["django_tenants.middleware.main.TenantMainMiddleware", *site_of.MIDDLEWARE],
    MIGRATION_MODULES={"shop": "shop_migrations", "tenancy": "tenancy_migrations"},
    PUBLIC_SCHEMA_URLCONF="public_urls",
    SHARED_APPS=[*SHARED, *site_of.APPS[:-1]],
    TENANT_APPS=["django.contrib.contenttypes", "shop"],
    TENANT_MODEL="tenancy.Client",
    TENANT_DOMAIN_MODEL="tenancy.Domain",
    USE_X_FORWARDED_HOST=True,
)

from asgiref.sync import ThreadSensitiveContext, sync_to_async  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, models, transaction  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.template.response import TemplateResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from django_tenants.models import DomainMixin, TenantMixin  # noqa: E402
from django_tenants.utils import schema_context, schema_exists, tenant_context  # noqa: E402
from shop.models import Author  # noqa: E402

LIST = engines["django"].from_string("{% for author in authors %}{{ author }}{% endfor %}")


class Client(TenantMixin):
    title = models.CharField(max_length=50)
    auto_drop_schema = True

    class Meta:
        app_label = "tenancy"


class Domain(DomainMixin):
    class Meta:
        app_label = "tenancy"


def sync(request):
    names = [author.name for author in Author.objects.order_by("pk")]
    with transaction.atomic():
        names.append(Author.objects.get().name)
    assert connection.schema_name == request.tenant.schema_name
    return JsonResponse({"names": names, "user": request.user.username})


async def coroutine(request):
    names = [author.name async for author in Author.objects.order_by("pk")]
    names.append((await Author.objects.aget()).name)
    return JsonResponse({"names": names, "user": (await request.auser()).username})


async def gathers(request):
    first, last = await asyncio.gather(Author.objects.afirst(), Author.objects.alast())
    user = await request.auser()
    return JsonResponse({"names": [first.name, last.name], "user": user.username})


async def template(request):
    return TemplateResponse(request, LIST, {"authors": Author.objects.all()})


def fails(request):
    """Its transaction is rolled back, after which the tenant must still be the same."""
    with contextlib.suppress(IntegrityError), transaction.atomic():
        Author.objects.create(name="nobody")
        Author.objects.create(pk=Author.objects.first().pk)
    return sync(request)


def other(request, name):
    """Looks into another tenant's schema, and comes back."""
    with schema_context(name):
        theirs = Author.objects.get().name
    return JsonResponse({"theirs": theirs, "ours": Author.objects.get().name})


async def other_too(request, name):
    return await sync_to_async(other)(request, name)


async def public(request):
    return JsonResponse({"clients": [client.title async for client in Client.objects.all()]})


VIEWS = (sync, coroutine, gathers, template, fails)
urlpatterns = [path(f"{view.__name__}/", view) for view in VIEWS]
urlpatterns += [path("other/<name>/", other), path("other_too/<name>/", other_too)]
urls.urlpatterns = [path("", public)]


def create(*names):
    public = Client(schema_name="public", title="PUBLIC")
    public.save(verbosity=0)
    Domain.objects.create(domain="public.example", tenant=public)
    for name in names:
        client = Client(schema_name=name, title=name.upper())
        client.save(verbosity=0)
        Domain.objects.create(domain=f"{name}.example", tenant=client)
        with tenant_context(client):
            Author.objects.create(name=f"author of {name}")


async def visit(name, url, client=None):
    """As with a server: in a task, and with stock Django in a thread, of its own."""
    headers = {"x-forwarded-host": f"{name}.example"}
    async with ThreadSensitiveContext():
        return await asyncio.create_task((client or AsyncClient()).get(url, headers=headers))


async def in_turn():
    await sync_to_async(create)("a", "b")
    for name in "abab":
        for view in VIEWS:
            answer = await visit(name, f"/{view.__name__}/")
            assert answer.status_code == 200
            if view is template:
                assert answer.content.decode() == f"author of {name}"
            else:
                assert answer.json() == {"names": [f"author of {name}"] * 2, "user": ""}
        for url in ("other", "other_too"):
            away = "b" if name == "a" else "a"
            answer = await visit(name, f"/{url}/{away}/")
            assert answer.json() == {"theirs": f"author of {away}", "ours": f"author of {name}"}
    assert (await visit("public", "/")).json() == {"clients": ["PUBLIC", "A", "B"]}
    assert (await visit("public", "/sync/")).status_code == 404
    assert (await visit("a", "/")).status_code == 404
    assert (await visit("unknown", "/sync/")).status_code == 404


async def at_once():
    names = ["c", "d", "e"]
    await sync_to_async(create)(*names)
    clients = {name: AsyncClient() for name in names}
    for name, client in clients.items():
        await client.aforce_login(await User.objects.acreate(username=name))
    visits = [(name, view) for name in names for view in VIEWS for _ in range(3)]
    answers = await asyncio.gather(
        *(visit(name, f"/{view.__name__}/", clients[name]) for name, view in visits)
    )
    for (name, view), answer in zip(visits, answers, strict=True):
        if view is template:
            assert answer.content.decode() == f"author of {name}", view
        else:
            assert answer.json() == {"names": [f"author of {name}"] * 2, "user": name}, view


async def schemas():
    """A tenant that is saved has a schema, which migrations have filled; deleted, it has none."""
    await sync_to_async(create)("f")
    with contextlib.redirect_stdout(io.StringIO()):
        client = await Client.objects.acreate(schema_name="g", title="G")
    await Domain.objects.acreate(domain="g.example", tenant=client)
    answer = await visit("g", "/template/")
    assert (answer.status_code, answer.content) == (200, b"")
    for name, there in (("f", True), ("g", True), ("h", False)):
        assert await sync_to_async(schema_exists)(name) is there
    await sync_to_async(call_command)("migrate_schemas", "shop", "zero", tenant=True, verbosity=0)
    await sync_to_async(call_command)("migrate_schemas", verbosity=0)
    assert (await visit("f", "/template/")).content == b""  # its table was made anew
    await sync_to_async(client.delete)()
    assert not await sync_to_async(schema_exists)("g")
    assert (await visit("g", "/template/")).status_code == 404


@site_of.needs_us
async def in_a_coroutine():
    """The connection of a coroutine has the tenant, also in a transaction and in its tasks."""
    from django_aio import release_connection

    await sync_to_async(create)("i", "j")
    await release_connection()  # else the tasks would share it, and its tenant

    async def first():
        return (await Author.objects.afirst()).name

    async def work(name):
        connection.set_schema(name)
        async with transaction.atomic():
            await Author.objects.acreate(name="second")
            found = await asyncio.gather(first(), first())
        assert found == [f"author of {name}"] * 2
        assert connection.schema_name == name
        return await Author.objects.acount()

    tasks = [asyncio.create_task(work(name)) for name in "ij"]
    assert [await task for task in tasks] == [2, 2]


site_of.run(in_turn, at_once, schemas, in_a_coroutine)
