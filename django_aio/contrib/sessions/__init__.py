"""The patches of `django.contrib.sessions`."""
