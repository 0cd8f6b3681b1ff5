"""What the series changes in `django.contrib.sessions`."""
