"""What the tests of forms share."""

import pytest
from django import forms
from django.db import connections
from django.test import override_settings
from testapp.models import Author


@pytest.fixture
def trusted(request):
    """The module of the test is on the list."""
    with override_settings(AIO={"COOPERATIVE": [request.module.__name__, "testapp"]}):
        yield


@pytest.fixture(scope="session")
def _templates(_environment):
    """The templates of forms have been read from their files."""

    class Every(forms.Form):
        text = forms.CharField(help_text="help")
        number = forms.IntegerField()
        select = forms.ChoiceField(choices=[("a", "A")])
        several = forms.MultipleChoiceField(choices=[("a", "A")])
        checkbox = forms.BooleanField()
        hidden = forms.CharField(widget=forms.HiddenInput)

    str(forms.formset_factory(Every)())
    str(Every({}))


@pytest.fixture
def author(db):
    found = Author.objects.create(name="Ursula")
    connections.close_all()
    return found
