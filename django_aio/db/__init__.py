"""The patches of `django.db`: chains, pools, transactions, the ORM and the drivers."""
