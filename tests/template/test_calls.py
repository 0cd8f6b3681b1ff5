"""Tags, filters and context processors of either colour, and where they run."""

import asyncio
import contextlib
import copy
import threading

import pytest
from django.http import HttpRequest
from django.template import Context, Library, Node, RequestContext, TemplateSyntaxError, engines
from django.template.loader_tags import IncludeNode
from django.test import override_settings
from django.utils.safestring import SafeString
from hops import count_hops
from testapp.models import Author

from django_aio import BridgeError, blocking, cooperative, in_bridge, run

from .conftest import engine_of

LISTED = {"COOPERATIVE": [__name__]}
register = Library()


def where():
    """Where the code that calls this runs."""
    if in_bridge():
        return "loop"
    return "main" if threading.current_thread() is threading.main_thread() else "thread"


@register.filter
def place(value):
    return f"{value} {where()}"


@register.filter(is_safe=True)
async def afriend(value, greeting="hello"):
    await asyncio.sleep(0)
    return f"{greeting} {value}"


@register.filter(needs_autoescape=True)
async def aescaped(value, autoescape=True):
    return f"{autoescape}"


@register.filter
@cooperative
def marked(value):
    return f"{value} {where()}"


@register.filter
@blocking
def unmarked(value):
    return f"{value} {where()}"


@register.filter
def lazily(value):
    """A plain function that returns a coroutine."""
    return afriend(value, "lazily")


@register.simple_tag
def here():
    return where()


@register.simple_tag
async def athere(name, *, times=1):
    await asyncio.sleep(0)
    return f"<{name}>" * times


@register.simple_tag(takes_context=True)
async def from_context(context, name):
    await asyncio.sleep(0)
    context["left"] = "left behind"
    return context[name]


@register.inclusion_tag("friends.html")
async def friends(*names):
    await asyncio.sleep(0)
    return {"names": names}


@register.inclusion_tag("friends.html", takes_context=True)
def sync_friends(context):
    return {"names": [context["name"], where()]}


@register.simple_tag
async def failing():
    raise ValueError("a tag failed")


if hasattr(register, "simple_block_tag"):

    @register.simple_block_tag
    async def aboxed(content, border="|"):
        await asyncio.sleep(0)
        return SafeString(f"{border}{content}{border}")


class PlaceNode(Node):
    """A tag that renders what is in it, as most do."""

    def __init__(self, nodelist):
        self.nodelist = nodelist
        self.name = "original"

    def render(self, context):
        return f"{self.name} {where()}({self.nodelist.render(context)})"


@register.tag("place")
def do_place(parser, token):
    nodelist = parser.parse(("endplace",))
    parser.delete_first_token()
    return PlaceNode(nodelist)


class CopiedNode(Node):
    """Renders a copy of another node, as some libraries do."""

    def __init__(self, node):
        self.node = node

    @cooperative
    def render(self, context):
        node = copy.copy(self.node)
        node.name = "copy"
        return node.render_annotated(context)


@register.tag("copied")
def do_copied(parser, token):
    nodelist = parser.parse(("endcopied",))
    parser.delete_first_token()
    return CopiedNode(next(node for node in nodelist if isinstance(node, PlaceNode)))


class OwnInclude(IncludeNode):
    """Django's rendering, with a method of one's own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.extra_context["where"] = self

    def resolve(self, context):
        return where()


@register.tag("own_include")
def do_own_include(parser, token):
    return OwnInclude(parser.compile_filter(token.split_contents()[1]))


async def agreeting():
    await asyncio.sleep(0)
    return "hello"


FRIENDS = {"friends": "{% for name in names %}{{ name }},{% endfor %}", "where": "{{ where }}"}

COROUTINES = {
    "{{ name|afriend }}": "hello Ann",
    "{{ name|afriend:greeting|upper }}": "HELLO ANN",
    "{{ safe|afriend }}": "hello <b>",
    "{% autoescape off %}{{ name|aescaped }}{% endautoescape %}": "False",
    "{{ name|lazily }}": "lazily Ann",
    "{% if name|afriend == 'hello Ann' %}yes{% endif %}": "yes",
    "{% athere name times=2 %}": "&lt;Ann&gt;&lt;Ann&gt;",
    "{% athere greeting as found %}{{ found }}": "&lt;hello&gt;",
    "{% from_context 'name' %} {{ left }}": "Ann left behind",
    "{% friends name 'Bob' %}": "Ann,Bob,",
    "{% friends greeting %}": "hello,",
}
if hasattr(register, "simple_block_tag"):
    COROUTINES["{% aboxed border='!' %}{{ greeting }}{% endaboxed %}"] = "!hello!"


def context(**names):
    return Context({"name": "Ann", "greeting": agreeting, "safe": SafeString("<b>"), **names})


@pytest.fixture(params=["listed", "not listed"])
def any_list(request):
    with override_settings(AIO=LISTED if request.param == "listed" else {}):
        yield


@pytest.mark.parametrize("text", COROUTINES)
async def test_coroutine_functions_never_hop(text, compiled, any_list):
    if text == "{{ name|lazily }}":
        pytest.skip("a synchronous function")
    template = compiled(text, register, **FRIENDS)
    with count_hops() as hops:
        assert await template.arender(context()) == COROUTINES[text]
    assert not hops


@pytest.mark.parametrize("text", COROUTINES)
def test_coroutine_functions_in_a_thread(text, compiled):
    assert compiled(text, register, **FRIENDS).render(context()) == COROUTINES[text]


async def test_a_function_that_returns_a_coroutine(compiled, any_list):
    assert await compiled("{{ name|lazily }}", register).arender(context()) == "lazily Ann"


@pytest.mark.parametrize("text", ["{{ name|afriend }}", "{% athere name %}", "{% friends name %}"])
async def test_where_it_cannot_be_awaited(text, compiled):
    with pytest.raises(BridgeError, match=r"\w+ (afriend|.*athere|.*friends) is awaitable|result"):
        compiled(text, register, **FRIENDS).render(context())


async def test_errors_of_coroutine_tags(compiled):
    with pytest.raises(ValueError, match="a tag failed"):
        await compiled("{% failing %}", register).arender(context())


def test_arguments_are_still_checked(compiled):
    with pytest.raises(TemplateSyntaxError, match="did not receive value"):
        compiled("{% athere %}", register)
    with pytest.raises(TemplateSyntaxError, match="place requires 1 arguments"):
        compiled("{{ name|place:1 }}", register)


# Where synchronous ones run.

PLACES = {
    "{{ name|place }}": "Ann {}",
    "{% here %}": "{}",
    "{% here as found %}{{ found }}": "{}",
    "{% sync_friends %}": "Ann,{},",
    "{% place %}{{ name }}{% endplace %}": "original {}(Ann)",
    "{% for i in '12' %}{% place %}{{ i }}{% endplace %}{% endfor %}": (
        "original {0}(1)original {0}(2)"
    ),
    "{% own_include 'where.html' %}": "{}",
}


@pytest.mark.parametrize("text", PLACES)
async def test_on_the_list(text, compiled):
    template = compiled(text, register, **FRIENDS)
    with override_settings(AIO=LISTED), count_hops() as hops:
        assert await template.arender(context()) == PLACES[text].format("loop")
    assert not hops


@pytest.mark.parametrize("text", PLACES)
async def test_not_on_the_list(text, compiled):
    """The same compiled template: the list is asked when it is rendered."""
    template = compiled(text, register, **FRIENDS)
    with override_settings(AIO=LISTED):
        assert await template.arender(context()) == PLACES[text].format("loop")
    with count_hops() as hops:
        assert await template.arender(context()) == PLACES[text].format("thread")
    assert len(hops.work) == (2 if "for" in text else 1)


@pytest.mark.parametrize("text", PLACES)
def test_outside_the_bridge_nothing_hops(text, compiled):
    template = compiled(text, register, **FRIENDS)
    with count_hops() as hops:
        assert template.render(context()) == PLACES[text].format("main")
    assert not hops


async def test_marks_win(compiled):
    text = "{{ name|marked }} {{ name|unmarked }}"
    with override_settings(AIO=LISTED):
        assert await compiled(text, register).arender(context()) == "Ann loop Ann thread"
    assert await compiled(text, register).arender(context()) == "Ann loop Ann thread"


async def test_a_node_is_copied_with_its_own_attributes(compiled):
    text = "{% copied %}{% place %}x{% endplace %}{% endcopied %}"
    assert await compiled(text, register).arender(context()) == "copy thread(x)"


async def test_what_is_rendered_in_a_thread_waits_and_queries(db, compiled):
    """In the thread, with the connection of the chain."""
    await Author.objects.acreate(name="Ann")
    text = (
        "{% place %}{{ greeting }} {% athere 'x' %} {{ name|afriend }} "
        "{% for author in authors %}{{ author }}{% endfor %} {{ authors.acount }}{% endplace %}"
    )
    template = compiled(text, register)
    found = await template.arender(context(authors=Author.objects.all()))
    assert found == "original thread(hello &lt;x&gt; hello Ann Ann 1)"


async def test_django_s_own_cost_nothing(compiled):
    text = "{{ name|upper|add:'x'|date }}{% now 'Y' %}{% with x=name %}{% endwith %}"
    template = compiled(text, Library())
    filters = [func for func, _ in template.nodelist[0].filter_expression.filters]
    assert {func.__module__ for func in filters} == {"django.template.defaultfilters"}
    assert all(func.__code__.co_filename.endswith("defaultfilters.py") for func in filters[2:])
    for node in template.nodelist:
        assert "aio" not in type(node).render_annotated.__code__.co_filename


# Context processors.


async def aprocessor(request):
    await asyncio.sleep(0)
    return {"asynchronous": f"{where()}"}


def processor(request):
    return {"synchronous": where()}


async def bad_processor(request):
    return None


PROCESSORS = [f"{__name__}.{each.__name__}" for each in (aprocessor, processor)]
SHOWN = "{{ asynchronous }} {{ synchronous }}"


@contextlib.contextmanager
def settings_with(*processors, backend="django.DjangoTemplates", **options):
    options = {"context_processors": list(processors), **options}
    entry = {"BACKEND": f"django.template.backends.{backend}", "OPTIONS": options}
    with override_settings(TEMPLATES=[entry]):
        yield engines.all()[0]


async def test_processors_of_either_colour():
    with settings_with(*PROCESSORS) as engine:
        template = engine.from_string(SHOWN)
        assert await template.arender({}, HttpRequest()) == "loop thread"
        with override_settings(AIO=LISTED), count_hops() as hops:
            assert await template.arender({}, HttpRequest()) == "loop loop"
        assert not hops
        assert await template.arender({"synchronous": "own"}, HttpRequest()) == "loop own"


def test_processors_in_a_thread():
    with settings_with(*PROCESSORS) as engine:
        assert engine.from_string(SHOWN).render({}, HttpRequest()) == "loop main"


async def test_a_processor_without_a_dictionary():
    failing = pytest.raises(TypeError, match="bad_processor didn't return a dictionary")
    with settings_with(f"{__name__}.bad_processor") as engine, failing:
        await engine.from_string("").arender({}, HttpRequest())


async def test_processors_of_a_context():
    template = engine_of().from_string(SHOWN)

    def render():
        found = RequestContext(HttpRequest(), processors=[aprocessor, processor])
        return template.render(found)

    assert await run(render) == "loop thread"
