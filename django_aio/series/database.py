"""Connections, transactions, backends, the ORM; and `sync_to_async` and the like."""

from django_aio.patching import Patch
from django_aio.series.rows import add, of, rebind, replace

TABLE: tuple[Patch, ...] = (
    *of(
        "django.utils.asyncio",
        rebind(
            "get_running_loop",
            "utils.asyncio:get_running_loop",
            "the async_unsafe guard lets bridged code pass",
        ),
    ),
    *of(
        "asgiref.sync",
        replace(
            "AsyncToSync.__call__",
            "db.guests:async_to_sync_call",
            "the coroutine is a guest of the thread that waits; in the bridge it is awaited",
        ),
        replace(
            "SyncToAsync.__call__",
            "db.guests:sync_to_async_call",
            "the thread is a guest of the task that waits",
        ),
    ),
    *of(
        "asyncio.threads",
        replace(
            "to_thread",
            "db.visits:to_thread",
            "a thread that is left behind in a transaction cannot leave half of its work there",
        ),
    ),
    *of(
        "asyncio",
        rebind("to_thread", "asyncio.threads:to_thread", "the same function"),
    ),
    *of(
        "django.db.backends.base.base",
        add(
            "BaseDatabaseWrapper.aio", "db.state:UNMANAGED", "what a connection carries in a chain"
        ),
        replace(
            "BaseDatabaseWrapper.validate_thread_sharing",
            "db.handler:validate_thread_sharing",
            "the threads of a chain share its connections",
        ),
        replace(
            "BaseDatabaseWrapper.close_if_unusable_or_obsolete",
            "db.connecting:close_if_unusable_or_obsolete",
            "a coroutine may close a response",
        ),
        replace(
            "BaseDatabaseWrapper.cursor",
            "db.backends.utils:cursor",
            "async with connection.cursor()",
        ),
        replace(
            "BaseDatabaseWrapper.close",
            "db.connecting:close",
            "nothing is left in a session that is closed",
        ),
        replace(
            "BaseDatabaseWrapper.execute_wrapper",
            "db.observers:execute_wrapper",
            "who watches a connection watches those of its tasks",
        ),
        add(
            "BaseDatabaseWrapper.force_debug_cursor",
            "db.observers:force_debug_cursor",
            "who logs a connection's statements logs those of its tasks",
        ),
        replace(
            "BaseDatabaseWrapper.connect",
            "db.connecting:connect",
            "what receivers of connection_created set is not the chain's",
        ),
        replace(
            "BaseDatabaseWrapper.temporary_connection",
            "db.connecting:temporary_connection",
            "what a project does on its cursor is the chain's",
        ),
        replace(
            "BaseDatabaseWrapper.chunked_cursor",
            "db.backends.utils:cursor",
            "async with connection.chunked_cursor()",
        ),
        replace(
            "BaseDatabaseWrapper.run_and_clear_commit_hooks",
            "db.transaction:run_and_clear_commit_hooks",
            "the transaction has ended for the hooks of on_commit()",
        ),
        replace(
            "BaseDatabaseWrapper.on_commit",
            "db.transaction:on_commit",
            "coroutine functions on commit",
        ),
        add(
            "BaseDatabaseWrapper.needs_rollback",
            "db.transaction:needs_rollback",
            "each task marks the block that it is in",
        ),
    ),
    *of(
        "django.db.utils",
        add(
            "ConnectionHandler.__getitem__",
            "db.handler:getitem",
            "every chain of calls has its own connections",
        ),
        add(
            "ConnectionHandler.__setitem__",
            "db.handler:setitem",
            "a connection is set for the chain",
        ),
        add(
            "ConnectionHandler.__delitem__",
            "db.handler:delitem",
            "a connection is removed from the chain",
        ),
    ),
    *of(
        "django.utils.connection",
        replace(
            "BaseConnectionHandler.all",
            "db.handler:all_connections",
            "connections.all() lists the chain's",
        ),
    ),
    *of(
        "django.db.backends.postgresql.base",
        replace(
            "DatabaseWrapper.Database",
            "db.backends.postgresql.patches:database",
            "connections wait on the loop",
        ),
        replace(
            "DatabaseWrapper.pool",
            "db.backends.postgresql.patches:backend_pool",
            "OPTIONS['pool'] pools asynchronous connections",
        ),
        replace(
            "DatabaseWrapper.close_pool",
            "db.backends.postgresql.patches:close_pool",
            "the pool of the loop is closed",
        ),
        replace(
            "DatabaseWrapper.chunked_cursor",
            "db.backends.postgresql.patches:chunked_cursor",
            "server-side cursors take turns, and end without a wait",
        ),
        needs=("psycopg",),
        backend=True,
    ),
    *of(
        "psycopg.connection",
        add(
            "Connection._connect_gen",
            "db.backends.postgresql.patches:connect_gen",
            "a connect() that a tracer has wrapped makes our connections",
        ),
        needs=("psycopg",),
        on_import=True,
    ),
    *of(
        "django.db.backends.sqlite3.base",
        replace(
            "DatabaseWrapper.get_new_connection",
            "db.backends.sqlite3.patches:get_new_connection",
            "files are opened in aiosqlite's thread",
        ),
        replace(
            "DatabaseWrapper.create_cursor",
            "db.backends.sqlite3.patches:create_cursor",
            "statements run in aiosqlite's thread",
        ),
        replace(
            "DatabaseWrapper._set_autocommit",
            "db.backends.sqlite3.patches:set_autocommit",
            "sqlite3's implicit commit runs in the thread",
        ),
        add(
            "DatabaseWrapper._commit",
            "db.backends.sqlite3.patches:_commit",
            "commits run in the thread",
        ),
        add(
            "DatabaseWrapper._rollback",
            "db.backends.sqlite3.patches:_rollback",
            "rollbacks run in the thread",
        ),
        add(
            "DatabaseWrapper._close",
            "db.backends.sqlite3.patches:_close",
            "the thread ends with its connection",
        ),
        needs=("aiosqlite",),
        backend=True,
    ),
    *of(
        "django.db.models.query",
        rebind(
            "sync_to_async",
            "utils.asyncio:native",
            "QuerySet, RawQuerySet, aprefetch_related_objects",
        ),
        replace(
            "BaseIterable._async_generator",
            "db.models:iterate",
            "async for closes its cursor on the loop",
        ),
        replace(
            "{}._fetch_all",
            "db.models:fetch_all",
            "tasks that share a queryset have the same rows, prefetched",
            names="QuerySet RawQuerySet",
        ),
        replace(
            "QuerySet.aiterator",
            "db.models:aiterator",
            "aiterator() streams, and closes with its generator",
        ),
    ),
    *of(
        "django.db.models.base",
        rebind("sync_to_async", "utils.asyncio:native", "Model.asave, adelete, arefresh_from_db"),
    ),
    *of(
        "django.db.models.fields.related_descriptors",
        rebind("sync_to_async", "utils.asyncio:native", "related managers"),
    ),
    *of(
        "django.contrib.contenttypes.fields",
        rebind("sync_to_async", "utils.asyncio:native", "generic relations"),
        app="django.contrib.contenttypes",
    ),
    *of(
        "django.db.models.sql.compiler",
        add(
            "SQLCompiler.{}",
            "db.models:{}",
            "SQLCompiler.{}()",
            names="aexecute_sql aresults_iter ahas_results aexplain_query",
        ),
    ),
    *of(
        "django.db.models.sql.query",
        add(
            "Query.{}",
            "db.models:{}",
            "Query.{}()",
            names="aget_count aget_aggregation ahas_results aexplain",
        ),
    ),
    *of(
        "django.db.models.sql.subqueries",
        add("DeleteQuery.{}", "db.models:{}", "DeleteQuery.{}()", names="ado_query adelete_batch"),
        add("UpdateQuery.aupdate_batch", "db.models:aupdate_batch", "UpdateQuery.aupdate_batch()"),
    ),
    *of(
        "django.db.transaction",
        replace("Atomic.__enter__", "db.atomic:enter", "tasks of one transaction take turns"),
        replace("Atomic.__exit__", "db.atomic:leave", "tasks of one transaction take turns"),
        replace(
            "get_connection",
            "db.atomic:get_connection",
            "a block ends on the connection that it began on",
        ),
        add(
            "Atomic._recreate_cm",
            "db.atomic:recreate",
            "each call of a decorated function has a block of its own",
        ),
        add("aon_commit", "db.transaction:aon_commit", "transaction.aon_commit()", early=True),
        add("Atomic.__aenter__", "db.atomic:aenter", "async with transaction.atomic()"),
        add("Atomic.__aexit__", "db.atomic:aexit", "async with transaction.atomic()"),
        add("Atomic.__call__", "db.atomic:decorate", "@transaction.atomic on a coroutine function"),
    ),
    *of(
        "django.db.backends.utils",
        replace(
            "CursorWrapper._execute_with_wrappers",
            "db.transaction:execute_with_wrappers",
            "statements of one transaction take turns",
        ),
    ),
)
