"""Where the pages of the atlas are."""

from __future__ import annotations

from django.conf import settings
from django.urls import path, register_converter
from django.urls.converters import StringConverter

from . import suggestions, views
from .worldmap import world_map


class CountryCode(StringConverter):
    """Two letters of either case."""

    regex = "[A-Za-z]{2}"


class CityNumber(StringConverter):
    """A number that fits the column: more digits would be an error of the database, not a 404."""

    regex = "[0-9]{1,9}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(CountryCode, "country")
register_converter(CityNumber, "city")

app_name = "atlas"
urlpatterns = [
    path("", views.front, name="front"),
    path("search/", views.search, name="search"),
    path("countries/", views.countries, name="countries"),
    path("countries/<country:code>/", views.country, name="country"),
    path("cities/<city:pk>/", views.city, name="city"),
    path("api/cities/<city:pk>/", views.api_city, name="api-city"),
    path("notes/feed/", views.notes_feed, name="feed"),
    path("map.svg", world_map, name="map"),
]

if not settings.STOCK:  # Django by itself has no websockets
    from django_aio.urls import websocket

    urlpatterns.append(websocket("search/suggestions/", suggestions.suggest, name="suggestions"))
