"""Static files from WhiteNoise around coroutine views: hashed names, 304, ranges, compressed."""

import asyncio
import gzip
import tempfile
from pathlib import Path

import site_of

directory = tempfile.TemporaryDirectory()
SOURCE, TARGET, PUBLIC = (Path(directory.name) / name for name in ("source", "static", "public"))
for each in (SOURCE, TARGET, PUBLIC):
    each.mkdir()
CSS = "body { color: black; background: url('dot.svg') }\n" * 200
(SOURCE / "site.css").write_text(CSS)
(SOURCE / "dot.svg").write_text("<svg></svg>")
DATA = bytes(range(256)) * 1000
(SOURCE / "photo.jpg").write_bytes(DATA)
(PUBLIC / "robots.txt").write_text("User-agent: *\n")

site_of.configure(
    INSTALLED_APPS=["whitenoise.runserver_nostatic", "django.contrib.staticfiles"],
    MIDDLEWARE=[
        site_of.MIDDLEWARE[0],
        "whitenoise.middleware.WhiteNoiseMiddleware",
        *site_of.MIDDLEWARE[1:],
    ],
    STATICFILES_DIRS=[SOURCE],
    STATIC_ROOT=TARGET,
    STORAGES={
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    },
    WHITENOISE_ROOT=PUBLIC,
)

from asgiref.testing import ApplicationCommunicator  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.templatetags.static import static  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from shop.models import Author  # noqa: E402


def sync(request):
    names = [author.name for author in Author.objects.all()]
    return JsonResponse({"names": names, "user": request.user.username, "css": static("site.css")})


async def coroutine(request):
    names = [author.name async for author in Author.objects.all()]
    user = await request.auser()
    return JsonResponse({"names": names, "user": user.username, "css": static("site.css")})


urlpatterns = [path("sync/", sync), path("coroutine/", coroutine)]


async def body_of(response):
    """The body: stock Django streams a file under ASGI too."""
    if not response.streaming:
        return response.content
    return b"".join([chunk async for chunk in response])


async def get(path, client=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await (client or AsyncClient()).get(path, headers=headers)
    return response, await body_of(response)


async def files():
    response, body = await get("/robots.txt")
    assert body == b"User-agent: *\n"
    assert response.headers["content-type"] == 'text/plain; charset="utf-8"'
    assert response.headers["cache-control"] == "max-age=60, public"
    response, body = await get(static("photo.jpg"))
    assert body == DATA
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["cache-control"] == "max-age=315360000, public, immutable"
    assert response.headers["access-control-allow-origin"] == "*"
    response = await AsyncClient().head(static("photo.jpg"))
    assert response.headers["content-length"] == str(len(DATA))
    assert await body_of(response) == b""
    assert (await AsyncClient().post(static("photo.jpg"))).status_code == 405
    assert (await get("/static/absent.css"))[0].status_code == 404


async def not_modified():
    first, _ = await get(static("site.css"))
    unchanged, body = await get(
        static("site.css"), if_modified_since=first.headers["last-modified"]
    )
    assert unchanged.status_code == 304
    assert body == b""
    assert unchanged.headers["etag"] == first.headers["etag"]
    same, _ = await get(static("site.css"), if_none_match=first.headers["etag"])
    assert same.status_code == 304
    other, body = await get(static("site.css"), if_none_match='"other"')
    assert other.status_code == 200
    assert len(body) > 1000


async def ranges():
    for asked, start, end in (("0-99", 0, 100), ("1000-", 1000, None), ("-5", -5, None)):
        response, body = await get(static("photo.jpg"), range=f"bytes={asked}")
        assert response.status_code == 206
        assert body == DATA[start:end], asked
        assert response.headers["content-range"].endswith(f"/{len(DATA)}")
    response, _ = await get(static("photo.jpg"), range="bytes=999999-")
    assert response.status_code == 416


async def compressed():
    _, plain = await get(static("site.css"))
    assert static("dot.svg").encode().rpartition(b"/")[2] in plain
    response, body = await get(static("site.css"), accept_encoding="gzip")
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["vary"] == "Accept-Encoding"
    assert len(body) < len(plain) / 10
    assert gzip.decompress(body) == plain


async def at_once():
    """Pages for users, and files, each to who has asked for it."""
    await Author.objects.acreate(name="Lem")
    pages = []
    for number in range(6):
        client = AsyncClient()
        await client.aforce_login(await User.objects.acreate(username=f"user{number}"))
        pages.append(get("/sync/" if number % 2 else "/coroutine/", client))
    parts = [get(static("photo.jpg"), range=f"bytes={n}-{n + 9}") for n in range(20)]
    answers = await asyncio.gather(*pages, *parts)
    for number, (response, _) in enumerate(answers[:6]):
        user = f"user{number}"
        assert response.json() == {"names": ["Lem"], "user": user, "css": static("site.css")}
    assert [body for _, body in answers[6:]] == [DATA[n : n + 10] for n in range(20)]


async def as_a_server():
    """The ASGI application sends a file in parts."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": static("photo.jpg"),
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
    }
    server = ApplicationCommunicator(get_asgi_application(), scope)
    await server.send_input({"type": "http.request", "body": b""})
    assert (await server.receive_output(10))["status"] == 200
    parts = [await server.receive_output(10)]
    while parts[-1].get("more_body"):
        parts.append(await server.receive_output(10))
    await server.wait(10)
    assert len(parts) > 2
    assert b"".join(part.get("body", b"") for part in parts) == DATA


call_command("collectstatic", verbosity=0, interactive=False)
site_of.run(files, not_modified, ranges, compressed, at_once, as_a_server)
