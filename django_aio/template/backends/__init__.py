"""Mirrors `django.template.backends`."""
