"""The ASGI application: Django, and the static files in front of it.

A site on the internet would let its web server send the static files. The demo has none, so it
uses the handler that Django's own development server uses.
"""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = ASGIStaticFilesHandler(get_asgi_application())
