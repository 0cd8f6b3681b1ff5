"""The patches of `django.utils` and of asgiref's crossings between the two colours."""
