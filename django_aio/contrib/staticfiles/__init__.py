"""The patches of `django.contrib.staticfiles`: static files of an ASGI development server."""
