"""The cache, sessions, cached pages and fragments, counters and locks, on a Redis server."""

import asyncio
import secrets

import site_of

LOCATION = "redis://127.0.0.1:6379/0"
CACHE = {"BACKEND": "django_redis.cache.RedisCache", "KEY_PREFIX": f"compat-{secrets.token_hex(8)}"}
PACKED = {
    "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor",
    "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
}
NOBODY = "redis://127.0.0.1:1/0"
site_of.configure(
    CACHES={
        "default": {**CACHE, "LOCATION": LOCATION},
        "packed": {**CACHE, "LOCATION": LOCATION, "OPTIONS": PACKED},
        "away": {**CACHE, "LOCATION": NOBODY},
        "ignored": {**CACHE, "LOCATION": NOBODY, "OPTIONS": {"IGNORE_EXCEPTIONS": True}},
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)

import redis  # noqa: E402
from asgiref.sync import sync_to_async  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.cache import cache, caches  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402
from django_redis import get_redis_connection  # noqa: E402
from shop.models import Author  # noqa: E402

FRAGMENT = """{% load cache %}{% cache 60 authors user.pk %}{{ user.username }}:
{% for author in authors %}{{ author.name }},{% endfor %}{% endcache %}"""


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"], "user": request.user.username})


async def avisits(request):
    number = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", number)
    return JsonResponse({"visits": number, "user": (await request.auser()).username})


def names():
    return list(Author.objects.order_by("pk").values_list("name", flat=True))


async def anames():
    return await sync_to_async(names)()


def authors(request):
    return JsonResponse({"names": cache.get_or_set("names", names, 60), "left": cache.ttl("names")})


async def aauthors(request):
    found = await cache.aget_or_set("anames", await anames(), 60)
    return JsonResponse({"names": found, "left": await sync_to_async(cache.ttl)("anames")})


@cache_page(60)
def page(request):
    return HttpResponse(",".join(names()))


@cache_page(60)
async def apage(request):
    return HttpResponse(",".join(await anames()))


def fragment(request):
    data = {"authors": Author.objects.order_by("pk"), "user": request.user}
    return HttpResponse(engines["django"].from_string(FRAGMENT).render(data, request))


def take_number():
    """Reads, then writes: the lock makes it safe."""
    with cache.lock("counting", timeout=10, sleep=0.01):
        number = cache.get("counter", 0)
        cache.set("counter", number + 1, 60)
    return number


async def locked(request):
    return JsonResponse({"number": await asyncio.to_thread(take_number)})


async def counted(request):
    await cache.aadd("counted", 0)
    number = await cache.aincr("counted")
    await caches["packed"].aset(f"key {number}", {"number": number}, 60)
    return JsonResponse({"number": number, **await caches["packed"].aget(f"key {number}")})


def away(request, alias):
    return JsonResponse({"value": caches[alias].get("key", "the default")})


async def aaway(request, alias):
    return JsonResponse({"value": await caches[alias].aget("key", "the default")})


urlpatterns = [
    path("visits/", visits),
    path("avisits/", avisits),
    path("authors/", authors),
    path("aauthors/", aauthors),
    path("page/", page),
    path("apage/", apage),
    path("fragment/", fragment),
    path("locked/", locked),
    path("counted/", counted),
    path("away/<alias>/", away),
    path("aaway/<alias>/", aaway),
]


async def sessions():
    """Each visitor has a session of his own; a logout ends it."""
    users = [f"user{number}" for number in range(6)]
    clients = [AsyncClient() for _ in users]
    for client, name in zip(clients, users, strict=True):
        await client.aforce_login(await User.objects.acreate_user(name))
    for number, url in enumerate(("/visits/", "/avisits/", "/visits/"), 1):
        answers = await asyncio.gather(*(client.get(url) for client in clients))
        assert [answer.json()["user"] for answer in answers] == users
        assert {answer.json()["visits"] for answer in answers} == {number}
    key = clients[0].cookies["sessionid"].value
    assert await cache.ahas_key(f"django.contrib.sessions.cache{key}")
    await clients[0].alogout()
    assert (await clients[0].get("/avisits/")).json() == {"visits": 1, "user": ""}
    assert not await cache.ahas_key(f"django.contrib.sessions.cache{key}")


async def cached():
    """What has been written meanwhile is seen when the key is gone."""
    client = AsyncClient()
    await client.aforce_login(await User.objects.acreate_user("ann"))
    urls = ("/authors/", "/aauthors/", "/page/", "/apage/", "/fragment/")
    await Author.objects.acreate(name="Lem")
    first = [(await client.get(url)).content for url in urls]
    assert all(b"Lem" in content for content in first), first
    await Author.objects.acreate(name="Le Guin")
    again = [(await client.get(url)).content for url in urls]
    assert not any(b"Le Guin" in content for content in again), again
    assert 50 < (await client.get("/authors/")).json()["left"] <= 60
    assert await sync_to_async(cache.delete_pattern)("*names") == 2
    await sync_to_async(cache.delete_pattern)("*cache*")
    await client.aforce_login(await User.objects.aget())
    last = [(await client.get(url)).content for url in urls]
    assert all(b"Le Guin" in content for content in last), last


async def at_once():
    """Ten counters, ten holders of one lock, and what is stored in other forms."""
    client = AsyncClient()
    for url, first in (("/counted/", 1), ("/locked/", 0)):
        answers = await asyncio.gather(*(client.get(url) for _ in range(10)))
        numbers = sorted(answer.json()["number"] for answer in answers)
        assert numbers == list(range(first, first + 10)), numbers
    raw = await sync_to_async(get_redis_connection("default").get)(cache.make_key("counted"))
    assert raw == b"10"
    values = await caches["packed"].aget_many(["key 1", "key 9", "key 11"])
    assert values == {"key 1": {"number": 1}, "key 9": {"number": 9}}


async def no_server():
    client = AsyncClient()
    for url in ("/away/", "/aaway/"):
        assert (await client.get(f"{url}ignored/")).json() == {"value": "the default"}
        try:
            await client.get(f"{url}away/")
        except redis.ConnectionError:
            continue
        raise AssertionError(url)


async def cleared():
    await cache.aset("key", "value")
    assert await sync_to_async(cache.delete_pattern)("*") >= 1
    assert await cache.aget("key") is None


site_of.run(sessions, cached, at_once, no_server, cleared)
