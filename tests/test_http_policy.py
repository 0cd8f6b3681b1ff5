"""Which iterators of a streaming response run on the loop."""

import asyncio
import functools
import itertools

import pytest
from django.http import StreamingHttpResponse
from django.test import override_settings
from django.utils.text import compress_sequence
from testapp.models import Author

from django_aio import blocking, cooperative
from django_aio.http import runs_on_loop

LISTED = override_settings(AIO={"COOPERATIVE": [__name__]})


def numbers(most=3):
    for number in range(most):
        yield f"{number}"


@cooperative
def marked():
    yield "marked"


@blocking
def refused():
    yield "refused"


@cooperative
class Marked:
    def rows(self):
        yield "marked"


class Numbers:
    """An iterator that is an object."""

    def __init__(self, inner=None):
        self.inner = inner

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration


def nested(mark=cooperative):
    @mark
    def inside():
        yield ""

    return inside()


@cooperative
def marked_outside():
    def inside():
        yield ""

    return inside()


async def coroutine_outside():
    def inside():
        yield ""

    return inside()


class TestPolicy:
    @pytest.mark.parametrize("content", [[b"a"], (b"a",), {"a": 1}, {b"a"}, "é", b"a", range(2)])
    def test_containers_run_nobodys_code(self, content):
        assert runs_on_loop(iter(content))

    def test_a_generator_is_judged_by_its_module(self):
        assert not runs_on_loop(numbers())
        with LISTED:
            assert runs_on_loop(numbers())

    def test_a_started_one_too_and_a_finished_one_is_harmless(self):
        rows = numbers(1)
        next(rows)
        assert not runs_on_loop(rows)
        assert list(rows) == []
        assert runs_on_loop(rows)

    def test_marks_win(self):
        assert runs_on_loop(marked())
        assert runs_on_loop(Marked().rows())
        assert runs_on_loop(marked_outside())
        with LISTED:
            assert not runs_on_loop(refused())

    def test_the_mark_of_an_inner_function_cannot_be_seen(self):
        assert not runs_on_loop(nested())

    def test_a_generator_in_a_coroutine_function_is_synchronous_code(self):
        assert not runs_on_loop(asyncio.run(coroutine_outside()))

    def test_querysets_are_djangos(self):
        assert runs_on_loop(Author.objects.iterator())

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda inner: zip(inner, inner, strict=True),
            enumerate,
            lambda inner: itertools.islice(inner, 2),
            compress_sequence,
            lambda inner: (chunk for chunk in inner),
            lambda inner: map(StreamingHttpResponse().make_bytes, inner),
            lambda inner: StreamingHttpResponse(inner).streaming_content,
        ],
    )
    def test_what_wraps_an_iterator_is_no_better_than_it(self, wrap):
        assert not runs_on_loop(wrap(numbers()))
        with LISTED:
            assert runs_on_loop(wrap(numbers()))
            assert not runs_on_loop(wrap(refused()))

    def test_the_function_of_a_map_is_asked(self):
        assert not runs_on_loop(map(len, marked()))
        assert not runs_on_loop(map(functools.partial(len), marked()))

    def test_objects(self):
        assert not runs_on_loop(Numbers())
        with LISTED:
            assert runs_on_loop(Numbers(numbers()))
            assert not runs_on_loop(Numbers(refused()))

    def test_what_cannot_be_judged_is_not_trusted(self):
        with LISTED:
            assert not runs_on_loop(iter(lambda: "", None))
            assert not runs_on_loop(itertools.chain(numbers()))
            with open(__file__) as file:
                assert not runs_on_loop(iter(file))
