"""`django.views.static.serve` on the loop: a thread opens the file."""

import asyncio
import types

import pytest
from blockbuster import BlockBuster
from django.test import Client, override_settings
from django.urls import path
from django.views.static import serve
from hops import count_hops
from streams import Stream


@pytest.fixture
def root(tmp_path):
    (tmp_path / "page.txt").write_text("page")
    urls = types.ModuleType("urls_of_a_test")
    options = {"document_root": tmp_path, "show_indexes": True}
    urls.urlpatterns = [path("files/<path:path>", serve, options)]
    with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[]):
        yield tmp_path


async def get(path, **options):
    async with Stream(path, **options) as stream:
        status, headers = await stream.start()
        return status, headers, b"".join(await stream.rest())


async def test_a_file(root):
    await get("/files/page.txt")
    with count_hops() as hops:
        status, headers, body = await get("/files/page.txt")
    assert (status, body, headers["content-length"]) == (200, b"page", "4")
    assert len([hop for hop in hops if hop.startswith("submit")]) == 2


async def test_not_modified_and_not_found(root):
    _, headers, _ = await get("/files/page.txt")
    since = {"if-modified-since": headers["last-modified"]}
    assert (await get("/files/page.txt", headers=since))[0] == 304
    assert (await get("/files/missing.txt"))[0] == 404


async def test_an_index(root):
    assert b"page.txt" in (await get("/files/./"))[2]


async def test_nothing_blocks(root):
    await get("/files/page.txt")
    buster = BlockBuster()
    buster.activate()
    try:
        assert (await get("/files/page.txt"))[0] == 200
    finally:
        buster.deactivate()


def test_a_synchronous_client_is_served_in_its_own_thread(root):
    with count_hops() as hops:
        response = Client().get("/files/page.txt")
        assert b"".join(response.streaming_content) == b"page"
        response.close()
    assert not hops


def test_outside_of_the_bridge_it_is_djangos(root):
    async def view():
        return serve(types.SimpleNamespace(META={}), "page.txt", document_root=root)

    response = asyncio.run(view())
    assert response.getvalue() == b"page"
    response.close()
