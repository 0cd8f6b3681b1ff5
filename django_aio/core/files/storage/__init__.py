"""Mirrors django.core.files.storage."""
