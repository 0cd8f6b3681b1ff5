"""Django's cache backends on the event loop."""
