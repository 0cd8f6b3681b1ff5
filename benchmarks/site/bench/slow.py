"""A page whose queries take their time, rendered whole and streamed: for `streaming.py`."""

from __future__ import annotations

from typing import Any

from django.db.models import FloatField, Func, QuerySet, TextField, Value
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse

from .models import Fortune

SECTIONS = 3


def context(request: HttpRequest) -> dict[str, Any]:
    """Sections of the page, none of which has been queried yet: `?ms=100` for each of them."""
    seconds = Value(int(request.GET["ms"]) / 1000, output_field=FloatField())
    slept = Func(seconds, function="pg_sleep", output_field=TextField())
    sections: list[QuerySet[Fortune]] = [
        Fortune.objects.filter(pk=Fortune.objects.order_by("pk").values("pk")[n : n + 1]).annotate(
            slept=slept
        )
        for n in range(SECTIONS)
    ]
    return {"sections": sections}


async def whole(request: HttpRequest) -> HttpResponseBase:
    """The page as Django has it."""
    return TemplateResponse(request, "slow.html", context(request))


async def streamed(request: HttpRequest) -> HttpResponseBase:
    """The same page, sent while it is rendered. Only with the series."""
    from django_aio.shortcuts import astream

    return astream(request, "slow.html", context(request))
