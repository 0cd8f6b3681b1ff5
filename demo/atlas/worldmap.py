"""A map of the world that consists of nothing but its cities.

One SVG path of round dots per size: far smaller than one circle element for each city, and a
browser draws it at once. It is an image of its own, cached, so no page waits for it.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control

from .models import City

# No city is further north or south, so the map need not be either.
NORTH, SOUTH = 78, -56
SCALE = 4  # units per degree: dots nearer than a quarter of a degree are one
SMALLEST = 50_000
LARGE = 1_000_000

SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>path{{fill:none;stroke:#0b5d6b;stroke-linecap:round;stroke-opacity:.5}}\
.large{{stroke-opacity:.85}}\
@media(prefers-color-scheme:dark){{path{{stroke:#6cc5d2}}}}</style>
<path stroke-width="4" d="{small}"/><path class="large" stroke-width="8" d="{large}"/></svg>
"""


def position(longitude: float, latitude: float) -> tuple[float, float]:
    """Where a place is on the map, in parts of its width and height."""
    return (longitude + 180) / 360, (NORTH - latitude) / (NORTH - SOUTH)


@cache_control(public=True, max_age=86400)
async def world_map(request: HttpRequest) -> HttpResponse:
    """Draw all cities from `SMALLEST` on."""
    width, height = 360 * SCALE, (NORTH - SOUTH) * SCALE
    small: set[str] = set()
    large: set[str] = set()
    cities = City.objects.filter(population__gte=SMALLEST).order_by()
    async for longitude, latitude, population in cities.values_list(
        "longitude", "latitude", "population"
    ):
        x, y = position(longitude, latitude)
        dots = large if population >= LARGE else small
        dots.add(f"M{x * width:.0f} {y * height:.0f}h0")
    content = SVG.format(
        width=width, height=height, small="".join(sorted(small)), large="".join(sorted(large))
    )
    return HttpResponse(content, content_type="image/svg+xml")
