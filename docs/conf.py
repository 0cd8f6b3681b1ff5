"""Sphinx configuration.

sphinx-build -W -n -b html docs docs/_build/html

The modules are imported for their docstrings, so the package must be importable with the extras
postgresql and sqlite. Nothing is fetched from the network.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from django_aio import __version__

project = "django-aio"
author = "The django-aio authors"
copyright = "2026, the django-aio authors"
version = release = __version__

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"django-aio {release}"
html_copy_source = False

# Docstrings are written with single backticks for code.
default_role = "code"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True

# There is no inventory of Python's, Django's or a driver's names: only our own can be checked. Type
# variables have no entry of their own.
nitpick_ignore_regex = [("py:.*", r"(?!django_aio\b).*"), ("py:class", r"django_aio\.\w+\.[A-Z]")]
