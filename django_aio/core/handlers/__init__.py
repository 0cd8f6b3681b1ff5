"""The patches of `django.core.handlers`: the request path."""
