"""Variables: what Django finds, found by one look where nothing needs to be called."""

import collections
import datetime
import decimal
from unittest import mock

import pytest
from django.db import models
from django.db.models import Model
from django.template import Context, Engine
from django.template.base import FilterExpression, VariableNode
from django.test.utils import isolate_apps, override_settings
from django.utils.safestring import mark_safe
from testapp.models import Author, Book

from django_aio.speedups.variables import names_of

# Django's own, as it was before the series was applied.
djangos = VariableNode.render.__wrapped__
resolve = FilterExpression.resolve

VALUES = (
    "plain",
    "<b>&",
    mark_safe("<b>"),
    "",
    7,
    1234567,
    1.5,
    True,
    None,
    decimal.Decimal("1.50"),
    datetime.date(2026, 1, 2),
    datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC),
    [1, "<"],
    {"a": "<"},
)


def node_of(source):
    """The only node of a template."""
    [node] = Engine().from_string(source).nodelist
    return node


def outcome(render, source, values, **options):
    """What the node writes, or the error that it raises."""
    template = Engine(string_if_invalid="(no %s)").from_string(source)
    context = Context(values, **options)
    with context.bind_template(template), context.render_context.push_state(template):
        try:
            return render(template.nodelist[0], context)
        except Exception as error:
            return type(error), str(error)


def check(source, values, **options):
    """The node writes what Django's would. Returns that."""
    assert names_of(node_of(source).filter_expression)
    found = outcome(VariableNode.render, source, values, **options)
    with mock.patch.object(FilterExpression, "resolve", resolve):  # which nobody records
        assert found == outcome(djangos, source, values, **options)
    return found


@pytest.fixture(params=[False, True])
def separators(request):
    """Thousands are separated or not."""
    with override_settings(USE_THOUSAND_SEPARATOR=request.param):
        yield


@pytest.mark.usefixtures("separators")
@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("options", [{}, {"autoescape": False}, {"use_l10n": False}], ids=str)
def test_plain_values(value, options, looks):
    book = Book(title=value, pk=value)
    values = {"value": value, "book": book, "map": {"key": value, "items": value}}
    for name in ("value", "book.title", "book.pk", "book.id", "map.key", "map.items"):
        check("{{ " + name + " }}", values, **options)
    assert looks == []


@pytest.mark.parametrize(
    "source",
    [
        "{{ missing }}",
        "{{ book.missing }}",
        "{{ book.save }}",
        "{{ book.shout }}",
        "{{ book.author_id }}",
        "{{ book.author }}",
        "{{ book.objects }}",
        "{{ book.extra }}",
        "{{ call }}",
        "{{ map.keys }}",
        "{{ map.missing }}",
        "{{ map.author }}",
        "{{ ordered.title }}",
        "{{ default.title }}",
        "{{ list.0 }}",
        "{{ text.upper }}",
        "{{ model.title }}",
        "{{ book }}",
    ],
)
def test_what_needs_more_than_a_look(source, looks):
    author = Author(name="<a>", pk=3)
    book = Book(title="t", author=author, pk=1)
    book.extra = "<extra>"
    values = {
        "book": book,
        "call": lambda: "<called>",
        "map": {"title": "<", "author": author},
        "ordered": collections.OrderedDict(title="<"),
        "default": collections.defaultdict(lambda: "<"),
        "list": ["<"],
        "text": "t",
        "model": Book,
    }
    check(source, values)
    assert looks == [source[3:-3]]


def test_the_variables_of_a_loop(looks):
    source = "{% for x in 'ab' %}{{ forloop.counter }}{{ forloop.last }}{{ x }} {% endfor %}"
    assert Engine().from_string(source).render(Context()) == "1Falsea 2Trueb "
    assert looks == ["'ab'"]


def test_nodes_that_stay_djangos():
    for source in ("{{ a.b.c }}", "{{ a|upper }}", "{{ 'text' }}", "{{ 5 }}", "{{ _('text') }}"):
        assert names_of(node_of(source).filter_expression) is None


def test_who_replaces_the_render_of_variables_has_it(monkeypatch):
    monkeypatch.setattr(VariableNode, "render", lambda self, context: "theirs")
    assert Engine().from_string("{{ a }}{{ a.b }}").render(Context()) == "theirstheirs"


def test_a_deferred_field_is_loaded(db, looks):
    Book.objects.create(title="<t>", author=Author.objects.create(name="a"))
    [book] = Book.objects.defer("title")
    assert check("{{ book.title }}", {"book": book}) == "&lt;t&gt;"
    assert looks == ["book.title"]
    check("{{ book.title }}", {"book": book})
    assert looks == ["book.title"]


@isolate_apps("testapp")
def test_models_with_ways_of_their_own():
    class Base(models.Model):
        title = models.CharField()

        class Meta:
            app_label = "testapp"
            abstract = True

    class Item(Base):
        def __getitem__(self, name):
            return f"item {name}"

    class Callable(Base):
        def __call__(self):
            return {"title": "called"}

    class Attribute(Base):
        def __getattribute__(self, name):
            return "attribute" if name == "title" else super().__getattribute__(name)

    class Pk(Base):
        @property
        def pk(self):
            return "my pk"

    class Child(Item):
        pass

    expected = {
        Item: ("item title", "item pk"),
        Callable: ("called", "(no x.pk)"),
        Attribute: ("attribute", "5"),
        Pk: ("plain", "my pk"),
        Child: ("item title", "item pk"),
    }
    for kind, written in expected.items():
        thing = kind.__new__(kind)
        Model.__init__(thing, id=5, title="plain")
        found = [check("{{ x.%s }}" % name, {"x": thing}) for name in ("title", "pk")]  # noqa: UP031
        assert found == list(written)


@isolate_apps("testapp")
def test_descriptors_of_a_class_come_first():
    class Document(models.Model):
        file = models.FileField()
        size = models.IntegerField()

        class Meta:
            app_label = "testapp"

    class Proxy(Document):
        class Meta:
            app_label = "testapp"
            proxy = True

    class Child(Document):
        note = models.CharField()

        class Meta:
            app_label = "testapp"

    for kind in (Document, Proxy, Child):
        thing = kind(file="a.txt", size=5, pk=1)
        assert check("{{ x.size }}", {"x": thing}) == "5"
        assert check("{{ x.file }}", {"x": thing}) == "a.txt"
        assert check("{{ x.pk }}", {"x": thing}) == "1"
    document = Document(size=5, pk=1)
    Document.size = property(lambda self: "computed")
    assert check("{{ x.size }}", {"x": document}) == "computed"


@isolate_apps("testapp")
def test_a_composite_key():
    class Pair(models.Model):
        pk = models.CompositePrimaryKey("a", "b")
        a = models.IntegerField()
        b = models.IntegerField()

        class Meta:
            app_label = "testapp"

    assert check("{{ x.pk }}", {"x": Pair(a=1, b=2)}) == "(1, 2)"
    assert check("{{ x.a }}", {"x": Pair(a=1, b=2)}) == "1"


async def test_a_coroutine_in_a_field_is_awaited(looks):
    async def later():
        return "<later>"

    book = Book()
    book.title = later()
    template = Engine().from_string("{{ book.title }}")
    assert await template.arender(Context({"book": book})) == "&lt;later&gt;"
    assert looks == ["book.title"]


@pytest.mark.parametrize("error", [KeyError, TypeError, ValueError, IndexError, ZeroDivisionError])
def test_layers_with_errors_of_their_own(error):
    class Strict(dict):
        def __contains__(self, name):
            raise error

    for render in (VariableNode.render, djangos):
        written = outcome(render, "{{ name }}", Strict())
        assert written == ((error, "") if error is ZeroDivisionError else "(no name)")


def test_an_error_names_the_place_in_the_template():
    class Broken(dict):
        def __getitem__(self, name):
            raise ZeroDivisionError(name)

    engine = Engine(debug=True)
    template = engine.from_string("line\n{{ a }}")
    context = Context({"b": 1})
    context.dicts.append(Broken(a=1))
    with pytest.raises(ZeroDivisionError) as raised:
        template.render(context)
    assert raised.value.template_debug["during"] == "{{ a }}"
