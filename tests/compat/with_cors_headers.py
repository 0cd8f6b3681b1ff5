"""Headers and preflights of django-cors-headers around views of both colours, many at once."""

import asyncio

import site_of

site_of.configure(
    INSTALLED_APPS=["corsheaders"],
    MIDDLEWARE=[
        site_of.MIDDLEWARE[0],
        "corsheaders.middleware.CorsMiddleware",
        *site_of.MIDDLEWARE[1:],
    ],
    CORS_ALLOWED_ORIGINS=["https://shop.example"],
    CORS_ALLOWED_ORIGIN_REGEXES=[r"^https://\w+\.shop\.example$"],
    CORS_ALLOW_CREDENTIALS=True,
    CORS_ALLOW_HEADERS=["x-basket", "content-type"],
    CORS_EXPOSE_HEADERS=["x-total"],
    CORS_PREFLIGHT_MAX_AGE=600,
    CORS_URLS_REGEX=r"^/api/",
    LOGGING={"version": 1, "loggers": {"django.request": {"level": "CRITICAL"}}},
)

from corsheaders.signals import check_request_enabled  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.dispatch import receiver  # noqa: E402
from django.http import HttpResponseForbidden, JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from shop.models import Author  # noqa: E402

GOOD = "https://shop.example"
BAD = "https://evil.example"
PARTNER = "https://partner.example"


def sync(request):
    names = [author.name for author in Author.objects.order_by("pk")]
    response = JsonResponse({"names": names, "user": request.user.username})
    response["x-total"] = len(names)
    return response


async def coroutine(request):
    names = [author.name async for author in Author.objects.order_by("pk")]
    response = JsonResponse({"names": names, "user": (await request.auser()).username})
    response["x-total"] = len(names)
    return response


async def forbidden(request):
    return HttpResponseForbidden("no")


async def fails(request):
    raise ValueError("by intention")


VIEWS = {"sync": sync, "coroutine": coroutine, "forbidden": forbidden, "fails": fails}
urlpatterns = [path(f"api/{name}/", view) for name, view in VIEWS.items()]
urlpatterns += [path("other/", coroutine)]


async def get(path, origin=GOOD, client=None):
    client = client or AsyncClient(raise_request_exception=False)
    return await client.get(path, headers={"origin": origin})


async def preflight(path, origin=GOOD):
    headers = {"origin": origin, "access-control-request-method": "PUT"}
    return await AsyncClient().options(path, headers=headers)


def allowed(response):
    return response.headers.get("access-control-allow-origin")


async def requests():
    await Author.objects.acreate(name="Lem")
    for name, status in (("sync", 200), ("coroutine", 200), ("forbidden", 403), ("fails", 500)):
        response = await get(f"/api/{name}/")
        assert response.status_code == status
        assert allowed(response) == GOOD, name
        assert response.headers["access-control-allow-credentials"] == "true"
        assert response.headers["access-control-expose-headers"] == "x-total"
        assert "origin" in response.headers["vary"].lower()
        assert allowed(await get(f"/api/{name}/", "https://de.shop.example")), name
        refused = await get(f"/api/{name}/", BAD)
        assert refused.status_code == status
        assert allowed(refused) is None
        assert "origin" in refused.headers["vary"].lower()
    assert (await get("/api/coroutine/")).json() == {"names": ["Lem"], "user": ""}
    assert allowed(await get("/api/absent/")) == GOOD
    assert allowed(await get("/other/")) is None


async def preflights():
    for name in VIEWS:
        response = await preflight(f"/api/{name}/")
        assert response.status_code == 200
        assert response.content == b""
        assert allowed(response) == GOOD
        assert response.headers["access-control-allow-headers"] == "x-basket, content-type"
        assert "PUT" in response.headers["access-control-allow-methods"]
        assert response.headers["access-control-max-age"] == "600"
        assert allowed(await preflight(f"/api/{name}/", BAD)) is None
    assert (await preflight("/other/")).headers.get("access-control-max-age") is None


async def by_a_receiver():
    """It must not query: under ASGI it is called in a coroutine, in stock Django too."""

    @receiver(check_request_enabled)
    def known(sender, request, **kwargs):
        return request.path == "/api/coroutine/" and request.headers["origin"] == PARTNER

    try:
        assert allowed(await get("/api/coroutine/", PARTNER)) == PARTNER
        assert allowed(await preflight("/api/coroutine/", PARTNER)) == PARTNER
        assert allowed(await get("/api/sync/", PARTNER)) is None
        assert allowed(await get("/api/coroutine/", BAD)) is None
    finally:
        check_request_enabled.disconnect(known)


async def at_once():
    await Author.objects.acreate(name="Lem")
    expected, visits = [], []
    for number in range(8):
        client = AsyncClient()
        user = await User.objects.acreate(username=f"user{number}")
        await client.aforce_login(user)
        for name in ("sync", "coroutine"):
            origin = f"https://s{number}.shop.example" if number % 2 else BAD
            visits.append(get(f"/api/{name}/", origin, client))
            expected.append((origin if number % 2 else None, user.username))
    answers = await asyncio.gather(*visits)
    assert [(allowed(each), each.json()["user"]) for each in answers] == expected


site_of.run(requests, preflights, by_a_receiver, at_once)
