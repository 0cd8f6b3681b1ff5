"""Mirrors django.db.models.sql."""
