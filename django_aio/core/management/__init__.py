"""The patches of `django.core.management`: the commands."""
