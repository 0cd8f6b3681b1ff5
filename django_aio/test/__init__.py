"""Django's test tools on the loop."""
