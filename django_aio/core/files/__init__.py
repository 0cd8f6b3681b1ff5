"""Mirrors django.core.files."""
