"""The patches of `django.urls`: routes to websockets and to ASGI applications."""

from django_aio.protocols.patterns import asgi_view, websocket

__all__ = ["asgi_view", "websocket"]
