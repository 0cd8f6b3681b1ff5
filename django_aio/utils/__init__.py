"""The patches of `django.utils`, and what stands in for asgiref's `sync_to_async`."""
