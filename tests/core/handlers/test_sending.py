"""Files as responses: read by blocks in a thread, or sent by the server, and always closed."""

import asyncio
import gzip
import io
import os
import tempfile
import threading
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from django.core.files.base import ContentFile, File
from django.http import FileResponse
from django.test import override_settings
from hops import count_hops
from streams import Stream, routed

from django_aio import cooperative
from django_aio.core.handlers.files import BLOCK_SIZE

PATHSEND = {"http.response.pathsend": {}}


@pytest.fixture
def path(tmp_path):
    """A file of two blocks and a half."""
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(BLOCK_SIZE * 5 // 2))
    return path


def serves(make):
    """A view that runs on the loop and notes the responses that it made."""

    @cooperative
    def view(request):
        view.made.append(make())
        return view.made[-1]

    view.made = []
    return view


async def get(view, **options):
    """The status, the headers, and the messages of the body of one response."""
    with routed(file=view):
        async with Stream("/file/", **options) as stream:
            status, headers = await stream.start()
            messages = []
            while not messages or messages[-1].get("more_body"):
                messages.append(await stream.take())
            await stream.task
    assert view.made[-1].closed
    return status, headers, messages


def content(messages):
    return b"".join(message.get("body", b"") for message in messages)


def submissions(hops):
    return [hop for hop in hops if hop.startswith("submit")]


async def test_one_hand_over_for_each_block(path):
    view = serves(lambda: FileResponse(path.open("rb")))
    with count_hops() as hops:
        status, headers, messages = await get(view)
    assert (status, headers["content-length"]) == (200, str(path.stat().st_size))
    assert content(messages) == path.read_bytes()
    assert len(submissions(hops)) == 3
    assert view.made[0].file_to_stream.closed


async def test_a_small_file_is_one_hand_over(tmp_path):
    path = tmp_path / "small.txt"
    path.write_bytes(b"small")
    view = serves(lambda: FileResponse(path.open("rb")))
    with count_hops() as hops:
        assert content((await get(view))[2]) == b"small"
    assert len(submissions(hops)) == 1


async def test_nothing_is_read_on_the_loop(path):
    file = path.open("rb")
    view = serves(lambda: FileResponse(file))
    expected = path.read_bytes()
    buster = BlockBuster()
    buster.activate()
    try:
        assert content((await get(view))[2]) == expected
    finally:
        buster.deactivate()


async def test_an_empty_file_and_a_file_of_whole_blocks(tmp_path):
    for size in (0, BLOCK_SIZE, BLOCK_SIZE * 2):
        path = tmp_path / str(size)
        path.write_bytes(b"x" * size)
        view = serves(lambda path=path: FileResponse(path.open("rb")))
        assert content((await get(view))[2]) == b"x" * size


async def test_from_where_the_file_stands(path):
    def make():
        file = path.open("rb")
        file.seek(100)
        return FileResponse(file)

    _, headers, messages = await get(serves(make), extensions=PATHSEND)
    assert headers["content-length"] == str(path.stat().st_size - 100)
    assert content(messages) == path.read_bytes()[100:]


async def test_djangos_files(path):
    view = serves(lambda: FileResponse(File(path.open("rb"))))
    assert content((await get(view))[2]) == path.read_bytes()


@pytest.mark.parametrize("make", [io.BytesIO, ContentFile])
async def test_a_file_in_memory_needs_no_thread(make):
    view = serves(lambda: FileResponse(make(b"x" * 2**17)))
    with count_hops() as hops:
        assert content((await get(view))[2]) == b"x" * 2**17
    assert not hops


async def test_another_object_is_read_in_the_requests_thread():
    class Remote:
        def __init__(self):
            self.blocks = [b"a", b"b", b""]
            self.threads = []

        def read(self, size):
            self.threads.append(threading.current_thread())
            return self.blocks.pop(0)

        def close(self):
            self.threads.append(threading.current_thread())

    remote = Remote()
    assert content((await get(serves(lambda: FileResponse(remote))))[2]) == b"ab"
    assert len(remote.threads) == 4  # three times read, once closed
    assert len(set(remote.threads)) == 1
    assert threading.main_thread() not in remote.threads


async def test_a_pipe_is_no_file_on_disk():
    reader, writer = os.pipe()
    os.write(writer, b"through the pipe")
    os.close(writer)
    view = serves(lambda: FileResponse(os.fdopen(reader, "rb"), content_type="text/plain"))
    assert content((await get(view))[2]) == b"through the pipe"


async def test_head_reads_nothing(path):
    file = path.open("rb")
    view = serves(lambda: FileResponse(file))
    status, headers, messages = await get(view, method="HEAD", extensions=PATHSEND)
    assert (status, headers["content-length"]) == (200, str(path.stat().st_size))
    assert messages == [{"type": "http.response.body"}]
    assert file.closed


async def test_back_pressure(path):
    file = path.open("rb")
    with routed(file=serves(lambda: FileResponse(file))):
        async with Stream("/file/") as stream:
            await stream.start()
            await stream.offered()
            for _ in range(20):
                await asyncio.sleep(0)
            assert file.tell() == BLOCK_SIZE
            await stream.disconnect()
    assert file.closed


async def test_a_disconnect_while_the_thread_reads(path):
    file = path.open("rb")
    with routed(file=serves(lambda: FileResponse(file))):
        async with Stream("/file/") as stream:
            await stream.start()
            await stream.chunk()
            await stream.disconnect()
    assert file.closed


async def test_gzip_reads_the_file_in_a_thread(path):
    view = serves(lambda: FileResponse(path.open("rb")))
    with routed(file=view), override_settings(MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"]):
        async with Stream(
            "/file/", headers={"accept-encoding": "gzip"}, extensions=PATHSEND
        ) as stream:
            _, headers = await stream.start()
            body = b"".join(await stream.rest())
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == path.read_bytes()


class TestPathsend:
    async def test_the_server_sends_the_file(self, path):
        view = serves(lambda: FileResponse(path.open("rb")))
        with count_hops() as hops:
            status, headers, messages = await get(view, extensions=PATHSEND)
        assert (status, headers["content-length"]) == (200, str(path.stat().st_size))
        assert messages == [{"type": "http.response.pathsend", "path": str(path)}]
        assert len(submissions(hops)) == 1
        assert view.made[0].file_to_stream.closed

    async def test_the_path_is_absolute(self, path, monkeypatch):
        monkeypatch.chdir(path.parent)
        relative = Path(path.name)
        view = serves(lambda: FileResponse(relative.open("rb")))
        _, _, messages = await get(view, extensions=PATHSEND)
        assert messages[0]["path"] == str(path)

    @pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}])
    async def test_only_where_it_is_offered(self, path, extensions):
        view = serves(lambda: FileResponse(path.open("rb")))
        _, _, messages = await get(view, extensions=extensions)
        assert content(messages) == path.read_bytes()

    @pytest.mark.parametrize(
        "options",
        [
            {"status": 206},
            {"headers": {"Content-Encoding": "gzip"}},
            {"headers": {"Content-Range": "bytes 0-9/10"}},
        ],
    )
    async def test_not_if_it_is_not_the_whole_file(self, path, options):
        view = serves(lambda: FileResponse(path.open("rb"), **options))
        _, _, messages = await get(view, extensions=PATHSEND)
        assert content(messages) == path.read_bytes()

    async def test_not_if_another_length_was_promised(self, path):
        def make():
            response = FileResponse(path.open("rb"))
            response["Content-Length"] = "10"
            return response

        _, _, messages = await get(serves(make), extensions=PATHSEND)
        assert messages[0]["type"] == "http.response.body"

    async def test_not_if_the_path_is_another_file_by_now(self, path):
        expected = path.read_bytes()

        def make():
            response = FileResponse(path.open("rb"))
            path.rename(path.with_suffix(".old"))
            path.write_bytes(b"x" * len(expected))
            return response

        _, _, messages = await get(serves(make), extensions=PATHSEND)
        assert content(messages) == expected

    async def test_not_if_it_is_gone(self, path):
        expected = path.read_bytes()

        def make():
            response = FileResponse(path.open("rb"))
            path.unlink()
            return response

        _, _, messages = await get(serves(make), extensions=PATHSEND)
        assert content(messages) == expected

    async def test_not_if_it_has_no_name(self):
        def make():
            file = tempfile.TemporaryFile()  # noqa: SIM115
            file.write(b"nameless")
            file.seek(0)
            return FileResponse(file, content_type="text/plain")

        _, _, messages = await get(serves(make), extensions=PATHSEND)
        assert content(messages) == b"nameless"
