"""What the series changes in `django.contrib.messages`."""
