"""What each of Django's cache backends does on the event loop."""
