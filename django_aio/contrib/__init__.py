"""The patches of `django.contrib`."""
