"""Mirrors `django.template.loaders`."""
