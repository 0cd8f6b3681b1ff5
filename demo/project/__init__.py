"""The Django project of the demo: settings, database, URLs and the ASGI application."""
