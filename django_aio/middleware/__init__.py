"""The patches of `django.middleware`."""
