"""Third-party packages that need to know of chains."""

from django_aio.patching import Patch
from django_aio.series.rows import of, replace

TABLE: tuple[Patch, ...] = (
    *of(
        "channels.consumer",
        replace(
            "AsyncConsumer.dispatch",
            "compat.channels:dispatch",
            "an idle websocket holds no connection",
        ),
        needs=("channels",),
        on_import=True,
    ),
    *of(
        "debug_toolbar.panels.sql.panel",
        replace(
            "wrap_cursor", "compat.debug_toolbar:wrap_cursor", "the SQL panel shows what tasks ask"
        ),
        app="debug_toolbar",
        on_import=True,
    ),
    *of(
        "debug_toolbar.panels.sql.tracking",
        replace(
            "wrap_cursor", "compat.debug_toolbar:wrap_cursor", "the SQL panel shows what tasks ask"
        ),
        app="debug_toolbar",
        on_import=True,
    ),
    *of(
        "silk.collector",
        replace("local", "compat.silk:local", "what silk collects of a request is the request's"),
        replace("DataCollector.clear", "compat.silk:clear", "and begins with it"),
        app="silk",
        on_import=True,
    ),
)
