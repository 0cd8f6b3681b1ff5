"""Conditions: what `{% if %}` sees is what Django would, found by one look where that can be."""

import logging

import pytest
from django.template import Context, Engine
from django.template.base import FilterExpression, Parser
from django.template.context import BaseContext
from django.template.defaulttags import TemplateIfParser, TemplateLiteral
from testapp.models import Author, Book

from django_aio.speedups.variables import names_of

# Django's own, as it was before the series was applied.
djangos = TemplateLiteral.eval.__wrapped__

SHOWN = "{% if CONDITION %}yes{% else %}no{% endif %}"


class Strict(dict):
    """A layer of a context that has something to say about a name."""

    def __init__(self, error):
        self.error = error

    def __contains__(self, name):
        raise self.error


class Flagged(Context):
    """A context with an attribute of its own that Django finds."""

    flag = ()


def literal_of(source):
    """The literal that a condition consists of."""
    [node] = Engine().from_string("{% if " + source + " %}{% endif %}").nodelist
    [(literal, _)] = node.conditions_nodelists
    return literal


def check(source, values, context_class=Context):
    """The literal has the value that Django's has. Returns that."""
    literal = literal_of(source)
    assert names_of(literal.value)
    template = Engine(string_if_invalid="(no %s)").from_string("")
    outcomes = []
    for evaluate in (TemplateLiteral.eval, djangos):
        context = context_class(values) if isinstance(values, dict) else values
        with context.bind_template(template):
            try:
                outcomes.append(evaluate(literal, context))
            except Exception as error:
                outcomes.append(type(error))
    assert outcomes[0] is outcomes[1] or outcomes[0] == outcomes[1]
    return outcomes[0]


@pytest.mark.parametrize("value", ["", "x", 0, 7, None, True, [], [1], {}, {"a": 1}], ids=repr)
def test_plain_values(value):
    book = Book(title=value, pk=value)
    values = {"value": value, "book": book, "map": {"key": value}}
    for source in ("value", "book.title", "book.pk", "book.id", "map.key"):
        assert check(source, values) is value


def test_they_are_found_by_one_look(looks):
    conditions = (
        *("title", "book.title", "book.pk == number"),
        *("missing", "missing == none", "not title"),
    )
    source = "".join(SHOWN.replace("CONDITION", each) for each in conditions)
    values = {"title": "", "book": Book(title="t", pk=7), "number": 7, "none": None}
    assert Engine().from_string(source).render(Context(values)) == "noyesyesnoyesyes"
    assert looks == []


@pytest.mark.parametrize(
    "source",
    [
        "book",
        "book.missing",
        "book.author",
        "book.shout",
        "missing.title",
        "call",
        "map.keys",
        "map.missing",
        "list.0",
        "text.upper",
        "fails",
    ],
)
def test_what_needs_more_than_a_look(source):
    def fails():
        raise LookupError

    values = {
        "book": Book(title="t", author=Author(name="a", pk=3), pk=1),
        "call": lambda: "called",
        "map": {"title": ""},
        "list": [0],
        "text": "t",
        "fails": fails,
    }
    check(source, values)


def test_literals_that_stay_djangos():
    for source in ("a.b.c", "a|upper", "'text'", "5", "_('text')"):
        assert names_of(literal_of(source).value) is None


def test_missing_names_are_none(looks):
    assert check("missing", {}) is None
    assert looks == ["missing"]  # by Django's, for the comparison


@pytest.mark.parametrize("name", ["dicts", "render_context", "push", "flag"])
def test_names_of_what_a_context_has_itself(name):
    check(name, {"a": 1})
    check(name, {"a": 1}, Flagged)


@pytest.mark.parametrize("error", [KeyError, TypeError, ValueError, IndexError, ZeroDivisionError])
def test_layers_with_errors_of_their_own(error):
    check("name", Context(Strict(error)))


def test_django_tells_of_what_is_missing_where_it_is_asked_to(caplog):
    with caplog.at_level(logging.DEBUG, "django.template"):
        assert check("missing", {}) is None
    assert [record.args[0] for record in caplog.records] == ["missing"] * 2


def test_who_replaces_the_evaluation_of_literals_has_it(monkeypatch):
    monkeypatch.setattr(TemplateLiteral, "eval", lambda self, context: True)
    assert Engine().from_string(SHOWN.replace("CONDITION", "a")).render(Context()) == "yes"


def test_expressions_of_another_package_are_asked():
    class Always(FilterExpression):
        def resolve(self, context, ignore_failures=False):
            return True

    class Theirs(Parser):
        def compile_filter(self, token):
            return Always(token, self)

    assert TemplateIfParser(Theirs([]), ["a"]).parse().eval(BaseContext()) is True
