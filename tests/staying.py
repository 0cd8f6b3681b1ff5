"""What stays on the loop: no hand-over to a thread, no blocking call."""

import contextlib
from types import ModuleType

from blockbuster import BlockBuster
from django.conf import settings
from hops import Hops, count_hops


def own(hops) -> Hops:
    """The hand-overs that are not those of SQLite's statements; on PostgreSQL all of them."""
    statements = Hops(hops).by_sqlite() if settings.TEST_DB == "sqlite" else []
    return Hops(hop for hop in hops if hop not in statements)


@contextlib.contextmanager
def on_the_loop():
    """Fail if the block hands anything to a thread or blocks the loop."""
    buster = BlockBuster()
    buster.activate()
    try:
        with count_hops() as hops:
            yield
    finally:
        buster.deactivate()
    assert not own(hops), "\n".join(own(hops))


def urlconf(*patterns):
    """A URLconf for ROOT_URLCONF."""
    module = ModuleType("urlconf_of_a_test")
    module.urlpatterns = list(patterns)
    return module
