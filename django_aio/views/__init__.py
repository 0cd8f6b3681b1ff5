"""The patches of `django.views`."""
