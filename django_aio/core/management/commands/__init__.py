"""The patches of Django's own commands, which stay in Django's modules."""
