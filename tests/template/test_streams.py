"""Pages that are sent while they are rendered: the same text, earlier."""

import asyncio
import contextlib
import gc
import itertools

import pytest
from asgi import Client
from conftest import bridge_pool, out_of_the_pool, postgresql_only
from django.db import transaction
from django.middleware.csrf import get_token
from django.template import Context, Library, Node, TemplateDoesNotExist, engines
from django.test import override_settings
from django.urls import path
from django.utils import translation
from hypothesis import given, settings
from hypothesis import strategies as st
from staying import urlconf
from streams import Stream
from suspensions import cancelled_at
from testapp.models import Author

from django_aio import loops
from django_aio.shortcuts import astream
from django_aio.template.streams import PASSING

from .conftest import engine_of

register = Library()


async def pause():
    await asyncio.sleep(0)
    return "<paused>"


@register.simple_tag
async def apause():
    return await pause()


class Framed(Node):
    """A node of a project's, which runs in a thread and may do anything to its text."""

    def __init__(self, nodelist):
        self.nodelist = nodelist

    def render(self, context):
        return f"[{self.nodelist.render(context)[::-1]}]"


@register.tag
def framed(parser, token):
    nodelist = parser.parse(("endframed",))
    parser.delete_first_token()
    return Framed(nodelist)


class Widget:
    """A value that renders a template of its own, as forms do."""

    def __init__(self):
        text = "({% if 1 %}widget{% apause %}{% endif %})"
        self.template = engine_of(library=register).from_string(text)

    def __str__(self):
        return self.template.render(Context())

    def text(self):
        return str(self)


def names():
    return {"pause": pause, "plain": "<b>", "widget": Widget(), "no": None}


async def pieces_of(engine, name, **more):
    """The pieces of a stream, and what `render()` returns."""
    template = engine.get_template(name)
    whole = await template.arender(Context({**names(), **more}))
    stream = template.astream(Context({**names(), **more}))
    pieces = [piece async for piece in stream]
    assert "".join(pieces) == whole
    assert all(pieces)
    return pieces


# The same text.

LEAVES = [
    "text ",
    "{{ plain }}",
    "{{ pause }}",
    "{% apause %}",
    "{{ widget }}",
    "{{ forloop.counter }}{{ forloop.last }}",
    "{% cycle 'a' 'b' %}",
    "{{ block.super }}",
    "{% if block.super %}super{% endif %}",
    "{% with s=block.super %}{{ s }}{% endwith %}",
    "{% for c in block.super|slice:':3' %}{{ c }}{% endfor %}",
    "{% include 'part.html' %}",
    "{% include 'part.html' with plain=widget.text %}",
    "{% include 'part.html' with plain=pause only %}",
    "{% include part %}",
    "{% verbatim %}{{ x }}{% endverbatim %}",
    "{% comment %}x{% endcomment %}",
]
AROUND = [
    "{%% if pause %%}%s{%% endif %%}",
    "{%% if widget.text %%}%s{%% endif %%}",
    "{%% if no %%}x{%% elif plain %%}%s{%% else %%}y{%% endif %%}",
    "{%% with plain=pause %%}%s{%% endwith %%}",
    "{%% for x in '12' %%}%s{%% endfor %%}",
    "{%% for x in '' %%}x{%% empty %%}%s{%% endfor %%}",
    "{%% for x in '123' %%}{%% ifchanged %%}%s{%% endifchanged %%}{%% endfor %%}",
    "{%% filter upper %%}%s{%% endfilter %%}",
    "{%% spaceless %%}<p> %s </p> <p></p>{%% endspaceless %%}",
    "{%% autoescape off %%}%s{%% endautoescape %%}",
    "{%% framed %%}%s{%% endframed %%}",
]


def around(inner):
    return st.one_of(
        st.tuples(st.sampled_from(AROUND), inner).map(lambda pair: pair[0] % pair[1]),
        st.lists(inner, min_size=2, max_size=4).map("".join),
    )


def shapes(leaves):
    return st.recursive(st.sampled_from(leaves), around, max_leaves=8)


# In a template that extends nothing block.super is an error.
roots = shapes([leaf for leaf in LEAVES if "super" not in leaf])
root_blocks = st.lists(roots, min_size=2, max_size=2)
blocks = st.lists(shapes(LEAVES), min_size=2, max_size=2)


def blocked(bodies):
    return "".join(f"{{% block b{n} %}}{body}{{% endblock %}}" for n, body in enumerate(bodies))


@settings(deadline=None, max_examples=150, database=None, derandomize=True)
@given(top=roots, first=root_blocks, second=blocks, nested=st.booleans())
def test_any_template(top, first, second, nested):
    base = blocked(first)
    if nested:
        base = f"{{% if pause %}}{{% block outer %}}{base}{{% endblock %}}{{% endif %}}"
    part = "{{ plain }}{% if 1 %}<{{ pause }}>{% endif %}"
    engine = engine_of(
        {
            "base.html": f"head {top}{base} tail",
            "middle.html": f"{{% extends 'base.html' %}}{blocked(second)}",
            "page.html": "{% extends base %}{% block b1 %}{{ block.super }}!{% endblock %}",
            "part.html": part,
        },
        register,
    )

    async def compare():
        for name in ("base.html", "middle.html", "page.html"):
            template = engine.get_template("part.html")
            await pieces_of(engine, name, base="middle.html", part=template)

    asyncio.run(compare())


# Earlier.

EARLY = {
    "head{{ pause }}tail": ["head", "&lt;paused&gt;tail"],
    "{% if plain %}head{{ pause }}tail{% endif %}": ["head", "&lt;paused&gt;tail"],
    "{% with x=pause %}head{{ pause }}{% endwith %}": ["head", "&lt;paused&gt;"],
    "{% for x in 'ab' %}{{ x }}{% apause %}{% endfor %}": [
        "a",
        "&lt;paused&gt;b",
        "&lt;paused&gt;",
    ],
    "{% autoescape off %}head{{ pause }}{% endautoescape %}": ["head", "<paused>"],
    "head{% include 'part.html' %}tail": ["headpart", "&lt;paused&gt;tail"],
    "{% extends 'base.html' %}{% block body %}body{{ pause }}{% endblock %}": [
        "head body",
        "&lt;paused&gt; tail",
    ],
    "{% extends 'base.html' %}{% block body %}{{ block.super }}{% endblock %}": [
        "head ",
        "&lt;paused&gt; tail",
    ],
    # Collected.
    "head{% filter upper %}x{{ pause }}y{% endfilter %}": ["head", "X&LT;PAUSED&GT;Y"],
    "{% spaceless %}x{{ pause }}y{% endspaceless %}": ["x&lt;paused&gt;y"],
    "nothing waits": ["nothing waits"],
    "": [],
}
PARTS = {
    "part.html": "part{{ pause }}",
    "base.html": "head {% block body %}{{ pause }}{% endblock %} tail",
}


@pytest.mark.parametrize("text", EARLY)
async def test_what_stands_before_a_wait_leaves_before_it(text):
    engine = engine_of({**PARTS, "page.html": text}, register)
    assert await pieces_of(engine, "page.html") == EARLY[text]


async def test_partials():
    if len(PASSING) < 8:
        pytest.skip("new in Django 6.0")
    text = "head {% partialdef p inline %}in {{ pause }}{% endpartialdef %}{% partial p %}"
    engine = engine_of({"page.html": text})
    assert await pieces_of(engine, "page.html") == [
        "head in ",
        "&lt;paused&gt;in ",
        "&lt;paused&gt;",
    ]
    assert await pieces_of(engine, "page.html#p") == ["in ", "&lt;paused&gt;"]


async def test_the_next_step_waits_for_the_consumer():
    """No queue: what the consumer does not ask for is not rendered."""
    asked = []

    async def step():
        asked.append(len(asked))
        await asyncio.sleep(0)

    template = engine_of().from_string("a{{ step }}b{{ step }}c{{ step }}")
    stream = template.astream(Context({"step": step}))
    assert asked == []
    await anext(stream)
    assert asked == [0]
    await anext(stream)
    assert asked == [0, 1]
    await stream.aclose()


async def test_an_error_comes_after_what_was_rendered():
    async def broken():
        await asyncio.sleep(0)
        raise ValueError("broken")

    template = engine_of().from_string("head{{ pause }}more{{ broken }}never")
    stream = template.astream(Context({"pause": pause, "broken": broken}))
    pieces = []
    with pytest.raises(ValueError, match="broken"):
        async for piece in stream:
            pieces.append(piece)
    assert pieces == ["head", "&lt;paused&gt;more"]


async def test_a_missing_template_is_reported_as_by_render():
    stream = engines["django"].from_string("a{% include 'nowhere.html' %}").astream()
    with pytest.raises(TemplateDoesNotExist, match=r"nowhere\.html") as caught:
        [piece async for piece in stream]
    assert caught.value.backend is engines["django"]


async def test_the_language_of_the_page_is_its_own():
    def german():
        translation.activate("de")
        return ""

    template = engine_of().from_string("{{ german }}a{{ pause }}{{ language }}")
    names = {"german": german, "pause": pause, "language": translation.get_language}
    before = translation.get_language()
    pieces = []
    async for piece in template.astream(Context(names)):
        assert translation.get_language() == before
        pieces.append(piece)
    assert pieces[-1].endswith("de")


async def test_templates_of_the_consumer_are_not_part_of_the_page():
    engine = engine_of()
    other = engine.from_string("{% if 1 %}other{% endif %}")
    stream = engine.from_string("a{{ pause }}b{{ pause }}c").astream(Context({"pause": pause}))
    pieces = []
    async for piece in stream:
        assert other.render(Context()) == "other"
        pieces.append(piece)
    assert "".join(pieces) == "a&lt;paused&gt;b&lt;paused&gt;c"


# Left early.


class Held:
    """A coroutine function that waits until it is cancelled, and cleans up by awaiting."""

    def __init__(self):
        self.waiting = asyncio.Event()
        self.events = []

    async def hold(self):
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.events.append("cancelled")
            raise
        finally:
            self.events.append("cleaned up")


async def test_closing_unwinds_the_render():
    held = Held()
    stream = engine_of().from_string("head{{ hold }}").astream(Context({"hold": held.hold}))
    assert await anext(stream) == "head"
    await stream.aclose()
    assert held.events == ["cancelled", "cleaned up"]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_closing_cancels_what_the_render_waits_for():
    """As the cancellation of a task does: what it gathered is cancelled too."""
    held = [Held(), Held()]

    async def both():
        await asyncio.gather(*(each.hold() for each in held))

    stream = engine_of().from_string("head{{ both }}").astream(Context({"both": both}))
    assert await anext(stream) == "head"
    await asyncio.gather(*(each.waiting.wait() for each in held))
    await stream.aclose()
    await asyncio.sleep(0)
    assert [each.events for each in held] == [["cancelled", "cleaned up"]] * 2


async def test_cancelling_the_consumer_unwinds_the_render():
    held = Held()
    stream = engine_of().from_string("head{{ hold }}").astream(Context({"hold": held.hold}))

    async def consume():
        return [piece async for piece in stream]

    task = asyncio.ensure_future(consume())
    await held.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held.events == ["cancelled", "cleaned up"]


async def test_a_stream_that_was_never_started_leaves_nothing():
    engine_of().from_string("{{ pause }}").astream(Context({"pause": pause}))
    gc.collect()


QUERIES = "head{{ write }}{% for author in authors %}{{ author }}{{ authors.count }}{% endfor %}"


def writing():
    """A page that writes in a transaction, and reads."""

    def write():
        with transaction.atomic():
            Author.objects.create(name="new")
            Author.objects.filter(name="new").update(name="newer")
            transaction.set_rollback(True)
        return "."

    names = {"write": write, "authors": Author.objects.order_by("pk")}
    return engine_of().from_string(QUERIES).astream(Context(names))


@postgresql_only
async def test_closing_returns_the_connection(pooled):
    """Wherever the render waits: in its transaction, before a statement, after it."""
    await Author.objects.abulk_create([Author(name="a"), Author(name="b")])
    whole = "".join([piece async for piece in writing()])
    for taken in range(10):
        stream = writing()
        pieces = [piece for _ in range(taken) if (piece := await anext(stream, ""))]
        await stream.aclose()
        assert not await out_of_the_pool()
        assert whole.startswith("".join(pieces))
    assert "".join(pieces) == whole
    assert await Author.objects.acount() == 2


@postgresql_only
async def test_closing_in_the_handling_of_an_error_returns_the_connection(pooled):
    gc.disable()
    try:
        for taken in range(1, 6):
            stream = writing()
            try:
                for _ in range(taken):
                    await anext(stream)
                raise KeyError
            except (KeyError, StopAsyncIteration):
                await stream.aclose()
            assert not await out_of_the_pool()
    finally:
        gc.enable()


@postgresql_only
async def test_cancelling_returns_the_connection(pooled):
    await Author.objects.abulk_create([Author(name="a"), Author(name="b")])

    async def consume():
        return [piece async for piece in writing()]

    for n in itertools.count(1):
        if not await cancelled_at(consume, n):
            break
        await asyncio.sleep(0)  # the chain of that task ends
        await asyncio.gather(*loops.store().tasks)
        assert bridge_pool().out == {}
    assert n > 5
    assert await Author.objects.acount() == 2


# Responses.

PAGE = (
    "{% extends 'base.html' %}{% block body %}"
    "{% for author in authors %}{{ author }};{% endfor %}{% endblock %}"
)


@contextlib.contextmanager
def pages(view, middleware=(), **templates):
    loader = ("django.template.loaders.locmem.Loader", templates)
    options = {
        "loaders": [loader],
        "context_processors": ["django.template.context_processors.request"],
    }
    entry = {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": options}
    names = {"ROOT_URLCONF": urlconf(path("page/", view)), "MIDDLEWARE": middleware}
    with override_settings(TEMPLATES=[entry], **names):
        yield


async def test_the_head_leaves_before_the_query(db):
    await Author.objects.acreate(name="Ann")

    async def view(request):
        return astream(request, "page.html", {"authors": Author.objects.all(), "gate": gate.wait})

    gate = asyncio.Event()
    text = "head {{ request.path }}{{ gate }}{% for author in authors %}{{ author }}{% endfor %}"
    with pages(view, **{"page.html": text}):
        async with asyncio.timeout(20), Stream("/page/") as stream:
            assert (await stream.take())["status"] == 200
            assert (await stream.take())["body"] == b"head /page/"
            gate.set()
            assert (await stream.take())["body"] == b"True"
            assert (await stream.take())["body"] == b"Ann"


async def test_a_view_gets_an_error_for_a_missing_template():
    async def view(request):
        return astream(request, ["a.html", "nowhere.html"])

    missing = pytest.raises(TemplateDoesNotExist, match=r"a\.html, nowhere\.html")
    with pages(view), override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True), missing:
        await Client().get("/page/")


CSRF = ["django.middleware.csrf.CsrfViewMiddleware"]


async def test_the_csrf_cookie_needs_the_token_before(db):
    """The cookie is a header: too late when the page is rendered. `get_token()` asks in time."""

    async def without(request):
        return astream(request, "page.html")

    async def asked(request):
        get_token(request)
        return astream(request, "page.html")

    for view, expected in ((without, False), (asked, True)):
        with pages(view, CSRF, **{"page.html": "{% csrf_token %}"}):
            client = Client()
            response = await client.get("/page/")
            assert "csrfmiddlewaretoken" in response.text
            assert ("csrftoken" in client.cookies) is expected
