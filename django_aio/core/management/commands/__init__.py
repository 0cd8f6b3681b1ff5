"""The patches of Django's own commands. The commands themselves stay where they are."""
