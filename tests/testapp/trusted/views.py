"""Synchronous views whose module is on the list of AIO["COOPERATIVE"]."""

import threading

from django.forms import ModelForm
from django.http import HttpResponse
from django.shortcuts import redirect, render

from testapp.models import Author, Book


class AuthorForm(ModelForm):
    class Meta:
        model = Author
        fields = ("name", "born")


def where(request):
    return HttpResponse(f"{threading.current_thread() is threading.main_thread()}")


def form(request):
    form = AuthorForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        request.session["author"] = form.instance.pk
        return redirect("/template/")
    return render(request, "form.html", {"form": form, "books": Book.objects.all()})
