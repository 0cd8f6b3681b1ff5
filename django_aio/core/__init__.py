"""The patches of `django.core`."""
