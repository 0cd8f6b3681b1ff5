"""An atlas of the world's cities: models, coroutine views, the admin and a live feed of notes."""
