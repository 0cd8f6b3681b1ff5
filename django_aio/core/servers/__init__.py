"""What `django.core.servers` is for WSGI, for ASGI: the development server."""
