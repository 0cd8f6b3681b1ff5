"""What visitors may send: a search, a note, and how the queries of a country page shall run."""

from __future__ import annotations

from django import forms

from .models import Note
from .names import normalized

MAX_LATENCY = 200  # milliseconds: enough to see, not enough to tie the pool up


class SearchForm(forms.Form):
    """A city's name. An empty one is no mistake: the form was not filled in yet."""

    q = forms.CharField(label="City name", required=False, max_length=60)

    def clean_q(self) -> str:
        query: str = self.cleaned_data["q"]
        if query and not normalized(query):
            raise forms.ValidationError("Please use at least one letter or digit.")
        return query


class NoteForm(forms.ModelForm):
    """The text of a note; its city and author come from the view."""

    text = forms.CharField(
        label="Your note", max_length=Note.MAX_LENGTH, widget=forms.Textarea(attrs={"rows": 3})
    )

    class Meta:
        model = Note
        fields = ("text",)


class WaterfallForm(forms.Form):
    """The options of the country page, all of them optional."""

    mode = forms.ChoiceField(
        choices=[("parallel", "parallel"), ("sequential", "sequential")], required=False
    )
    latency = forms.IntegerField(min_value=0, max_value=MAX_LATENCY, required=False)
