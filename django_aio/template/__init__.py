"""Mirrors `django.template`: templates that wait on the loop, and whose pages can be streamed."""
