"""Mirrors django.utils.translation."""
