"""The development server for ASGI, as `django.core.servers` has one for WSGI."""
