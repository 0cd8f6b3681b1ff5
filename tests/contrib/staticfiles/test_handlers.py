"""Static files of a development server: one hand-over each, 304 and 404, no connection."""

import pytest
from blockbuster import BlockBuster
from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished, request_started
from django.test import override_settings
from django.urls import path
from hops import count_hops
from streams import Stream, routed

from django_aio.core.handlers.files import BLOCK_SIZE


@pytest.fixture
def root(tmp_path):
    """A project whose only static files are in this directory."""
    (tmp_path / "site.css").write_text("body {}")
    (tmp_path / "large.js").write_bytes(b"x" * (BLOCK_SIZE * 2 + 1))
    with override_settings(
        INSTALLED_APPS=[*settings.INSTALLED_APPS, "django.contrib.staticfiles"],
        STATIC_URL="/static/",
        STATICFILES_DIRS=[tmp_path],
        STATICFILES_FINDERS=["django.contrib.staticfiles.finders.FileSystemFinder"],
    ):
        finders.get_finder.cache_clear()
        yield tmp_path
    finders.get_finder.cache_clear()


@pytest.fixture
def application(root):
    return ASGIStaticFilesHandler(get_asgi_application())


async def get(application, path, **options):
    async with Stream(path, application, **options) as stream:
        status, headers = await stream.start()
        return status, headers, b"".join(await stream.rest())


def submissions(hops):
    return [hop for hop in hops if hop.startswith("submit")]


async def test_a_file_is_one_hand_over(application):
    with count_hops() as hops:
        status, headers, body = await get(application, "/static/site.css")
    assert (status, body, headers["content-type"]) == (200, b"body {}", "text/css")
    assert len(submissions(hops)) == 1


async def test_a_large_file_is_one_for_each_block(application):
    with count_hops() as hops:
        _, _, body = await get(application, "/static/large.js")
    assert body == b"x" * (BLOCK_SIZE * 2 + 1)
    assert len(submissions(hops)) == 3


async def test_not_modified(application):
    _, headers, _ = await get(application, "/static/site.css")
    since = {"if-modified-since": headers["last-modified"]}
    with count_hops() as hops:
        status, _, body = await get(application, "/static/site.css", headers=since)
    assert (status, body) == (304, b"")
    assert len(submissions(hops)) == 1


@pytest.mark.parametrize("name", ["missing.css", ""])
async def test_not_found(application, name):
    with count_hops() as hops:
        status, _, _ = await get(application, f"/static/{name}")
    assert status == 404
    assert len(submissions(hops)) == 1


async def test_head(application):
    status, headers, body = await get(application, "/static/site.css", method="HEAD")
    assert (status, headers["content-length"], body) == (200, "7", b"")


async def test_the_server_sends_the_file(application, root):
    extensions = {"http.response.pathsend": {}}
    async with Stream("/static/large.js", application, extensions=extensions) as stream:
        assert (await stream.start())[0] == 200
        message = await stream.take()
        await stream.task
    assert message == {"type": "http.response.pathsend", "path": str(root / "large.js")}


async def test_everything_else_is_the_projects(application):
    assert (await get(application, "/json/"))[2] == b'{"message": "Hello, World!"}'


async def test_request_signals(application):
    sent = []
    receivers = {
        signal: lambda name=name, **kwargs: sent.append((name, kwargs["sender"]))
        for name, signal in (("started", request_started), ("finished", request_finished))
    }
    for signal, receiver in receivers.items():
        signal.connect(receiver)
    try:
        await get(application, "/static/site.css")
        await get(application, "/static/missing.css")
    finally:
        for signal, receiver in receivers.items():
            signal.disconnect(receiver)
    one = [("started", ASGIStaticFilesHandler), ("finished", ASGIStaticFilesHandler)]
    assert sent == one * 2


async def test_a_disconnect_closes_the_file(application):
    """An unclosed file is a warning, and warnings are errors."""
    async with Stream("/static/large.js", application) as stream:
        await stream.start()
        await stream.chunk()
        await stream.disconnect()


async def test_nothing_blocks(application):
    await get(application, "/static/site.css")
    buster = BlockBuster()
    buster.activate()
    try:
        assert (await get(application, "/static/large.js"))[0] == 200
        assert (await get(application, "/static/missing.css"))[0] == 404
    finally:
        buster.deactivate()


async def test_the_view(root):
    from django.contrib.staticfiles.views import serve

    def view(request):
        return serve(request, request.GET["path"], insecure=True)

    def urlconf():
        return routed(static=view)

    with urlconf():
        assert (await get(None, "/static/?path=site.css"))[2] == b"body {}"
        assert (await get(None, "/static/?path=missing.css"))[0] == 404


async def test_the_view_on_the_loop(root):
    from django.contrib.staticfiles.views import serve

    with routed() as _, override_settings(DEBUG=True):
        settings.ROOT_URLCONF.urlpatterns = [path("s/<path:path>", serve)]
        await get(None, "/s/site.css")
        with count_hops() as hops:
            assert (await get(None, "/s/site.css"))[2] == b"body {}"
        assert len(submissions(hops)) == 2  # one finds and opens the file, one reads it
        assert (await get(None, "/s/missing.css"))[0] == 404
