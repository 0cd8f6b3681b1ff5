"""Lists of errors with nothing in them: what Django shows for one, without rendering it again."""

import pytest
from django.forms import CharField, Form
from django.forms.renderers import DjangoTemplates, TemplatesSetting
from django.forms.utils import ErrorDict, ErrorList
from django.template import TemplateDoesNotExist
from django.utils.safestring import SafeString

from django_aio.forms import utils


class Shouting(ErrorList):
    template_name = "django/forms/errors/list/text.txt"

    def get_context(self):
        return {"errors": ["always one"]}


class Counting(DjangoTemplates):
    rendered = 0

    def render(self, *args, **kwargs):
        self.rendered += 1
        return super().render(*args, **kwargs)


@pytest.mark.parametrize("show", [str, ErrorList.render, ErrorList.__html__, ErrorList.as_ul])
def test_an_empty_list_is_shown_as_django_shows_it(show):
    for _ in range(2):
        shown = show(ErrorList())
        assert shown == ""
        assert type(shown) is SafeString
    assert ErrorList().as_text() == ""


@pytest.mark.parametrize("show", [str, ErrorList.render, ErrorList.__html__, ErrorList.as_ul])
def test_errors_are_shown(show):
    errors = ErrorList()
    assert show(errors) == ""
    errors.append("<wrong>")
    assert show(errors) == '<ul class="errorlist"><li>&lt;wrong&gt;</li></ul>'
    assert errors.as_text() == "* &lt;wrong&gt;"
    errors.clear()
    assert show(errors) == ""


def test_a_form_shows_its_errors():
    class Title(Form):
        title = CharField()

    assert "errorlist" not in Title().as_p()
    assert '<ul class="errorlist"' in Title({}).as_p()
    assert str(ErrorDict()) == ""


def test_subclasses_templates_and_renderers_of_a_project_are_asked_every_time():
    assert "always one" in str(Shouting())
    renderer = Counting()
    for _ in range(2):
        assert str(ErrorList(renderer=renderer)) == ""
    assert renderer.rendered == 2
    with pytest.raises(TemplateDoesNotExist):  # it is not in the templates of the settings
        str(ErrorList(renderer=TemplatesSetting()))
    errors = ErrorList()
    assert errors.render("django/forms/errors/list/ul.html", {"errors": ["x"]}) != ""
    errors.template_name = "django/forms/label.html"
    assert errors.render(context={"label": "mine"}) == "mine"
    assert errors.render() == ""
    assert utils._of_empty.keys() <= utils.TEMPLATES
