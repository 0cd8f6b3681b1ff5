"""The table of contents: every change to Django, in landing order, one line each.

`python -m django_aio series` prints it with what became of each patch. `apply_series()` applies all
but the drivers; a driver's patches are applied when a connection of its engine is first made, so
that a project without PostgreSQL never imports psycopg. Any thread may apply, under one lock.
"""

from __future__ import annotations

import contextlib
import importlib
import threading

import django
from django.apps import apps

from django_aio import conf
from django_aio.patching import Patch, Status, add, rebind, replace, when_imported
from django_aio.speedups.table import TABLE as SPEEDUPS

BASE = "django.db.backends.base.base:BaseDatabaseWrapper"
PG = "django.db.backends.postgresql.base:DatabaseWrapper"
LITE = "django.db.backends.sqlite3.base:DatabaseWrapper"
COMPILER = "django.db.models.sql.compiler"
QUERY = "django.db.models.sql.query:Query"
SUBQUERIES = "django.db.models.sql.subqueries"
HANDLER = "django.core.handlers.base:BaseHandler"
ASGI = "django.core.handlers.asgi:ASGIHandler"
STATIC = "django.contrib.staticfiles.handlers:ASGIStaticFilesHandler"
RUNSERVER = "django.core.management.commands.runserver:Command"
NATIVE = "django_aio.utils.asyncio:native"
POLICY = "django_aio.policy:by_policy"
BLOCKING = "django_aio.policy:blocking"
IN_THREAD = "django_aio.policy:in_thread"
BRIDGED = "django_aio.utils.coroutines:bridged"
AUTH = "django.contrib.auth"
FILES = "django.contrib.sessions.backends.file:SessionStore"
FILE_CACHE = "django.core.cache.backends.filebased:FileBasedCache"
FILE_CACHE_BY = "django_aio.core.cache.backends.filebased"
FORMS = "django.forms"
VIEW = "django.views.generic.base:View"
ADMIN = "django.contrib.admin"
ADMIN_BY = "django_aio.contrib.admin"
JINJA = "django.template.backends.jinja2"
JINJA2 = ("jinja2",)
PSYCOPG = ("psycopg",)
AIOSQLITE = ("aiosqlite",)
REDIS = ("redis",)

# fmt: off
_SERIES: tuple[Patch, ...] = (
    # 1. The bridge: inside it, synchronous code may wait.
    rebind("django.utils.asyncio:get_running_loop", "django_aio.utils.asyncio:get_running_loop", "the async_unsafe guard lets bridged code pass"),
    replace("asgiref.sync:AsyncToSync.__call__", "django_aio.db.guests:async_to_sync_call", "the coroutine is a guest of the thread that waits; in the bridge it is awaited"),
    replace("asgiref.sync:SyncToAsync.__call__", "django_aio.db.guests:sync_to_async_call", "the thread is a guest of the task that waits"),
    replace("asyncio.threads:to_thread", "django_aio.db.visits:to_thread", "a thread that is left behind in a transaction cannot leave half of its work there"),
    rebind("asyncio:to_thread", "asyncio.threads:to_thread", "the same function"),
    # 2. Connections: a connection belongs to a call chain.
    add(f"{BASE}.aio", "django_aio.db.state:UNMANAGED", "what a connection carries in a chain"),
    add("django.db.utils:ConnectionHandler.__getitem__", "django_aio.db.chains:getitem", "every chain of calls has its own connections"),
    add("django.db.utils:ConnectionHandler.__setitem__", "django_aio.db.chains:setitem", "a connection is set for the chain"),
    add("django.db.utils:ConnectionHandler.__delitem__", "django_aio.db.chains:delitem", "a connection is removed from the chain"),
    replace("django.utils.connection:BaseConnectionHandler.all", "django_aio.db.chains:all_connections", "connections.all() lists the chain's"),
    replace(f"{BASE}.validate_thread_sharing", "django_aio.db.chains:validate_thread_sharing", "the threads of a chain share its connections"),
    replace(f"{BASE}.close_if_unusable_or_obsolete", "django_aio.db.connecting:close_if_unusable_or_obsolete", "a coroutine may close a response"),
    replace(f"{BASE}.cursor", "django_aio.db.backends.utils:cursor", "async with connection.cursor()"),
    replace(f"{BASE}.close", "django_aio.db.connecting:close", "nothing is left in a session that is closed"),
    replace(f"{BASE}.execute_wrapper", "django_aio.db.observers:execute_wrapper", "who watches a connection watches those of its tasks"),
    add(f"{BASE}.force_debug_cursor", "django_aio.db.observers:force_debug_cursor", "who logs a connection's statements logs those of its tasks"),
    replace(f"{BASE}.connect", "django_aio.db.connecting:connect", "what receivers of connection_created set is not the chain's"),
    replace(f"{BASE}.temporary_connection", "django_aio.db.connecting:temporary_connection", "what a project does on its cursor is the chain's"),
    replace(f"{BASE}.chunked_cursor", "django_aio.db.backends.utils:cursor", "async with connection.chunked_cursor()"),
    # 3. PostgreSQL: psycopg waits on the loop.
    replace(f"{PG}.Database", "django_aio.db.backends.postgresql.patches:database", "connections wait on the loop", needs=PSYCOPG),
    add("psycopg.connection:Connection._connect_gen", "django_aio.db.backends.postgresql.patches:connect_gen", "a connect() that a tracer has wrapped makes our connections", needs=PSYCOPG, on_import=True),
    replace(f"{PG}.pool", "django_aio.db.backends.postgresql.patches:backend_pool", "OPTIONS['pool'] pools asynchronous connections", needs=PSYCOPG),
    replace(f"{PG}.close_pool", "django_aio.db.backends.postgresql.patches:close_pool", "the pool of the loop is closed", needs=PSYCOPG),
    replace(f"{PG}.chunked_cursor", "django_aio.db.backends.postgresql.patches:chunked_cursor", "server-side cursors take turns, and end without a wait", needs=PSYCOPG),
    # 4. SQLite: one hop to aiosqlite's thread per statement.
    replace(f"{LITE}.get_new_connection", "django_aio.db.backends.sqlite3:get_new_connection", "files are opened in aiosqlite's thread", needs=AIOSQLITE),
    replace(f"{LITE}.create_cursor", "django_aio.db.backends.sqlite3:create_cursor", "statements run in aiosqlite's thread", needs=AIOSQLITE),
    replace(f"{LITE}._set_autocommit", "django_aio.db.backends.sqlite3:set_autocommit", "sqlite3's implicit commit runs in the thread", needs=AIOSQLITE),
    add(f"{LITE}._commit", "django_aio.db.backends.sqlite3:_commit", "commits run in the thread", needs=AIOSQLITE),
    add(f"{LITE}._rollback", "django_aio.db.backends.sqlite3:_rollback", "rollbacks run in the thread", needs=AIOSQLITE),
    add(f"{LITE}._close", "django_aio.db.backends.sqlite3:_close", "the thread ends with its connection", needs=AIOSQLITE),
    # 5. The ORM: every a-prefixed method runs on the loop.
    rebind("django.db.models.query:sync_to_async", NATIVE, "QuerySet, RawQuerySet, aprefetch_related_objects"),
    rebind("django.db.models.base:sync_to_async", NATIVE, "Model.asave, adelete, arefresh_from_db"),
    rebind("django.db.models.fields.related_descriptors:sync_to_async", NATIVE, "related managers"),
    rebind("django.contrib.contenttypes.fields:sync_to_async", NATIVE, "generic relations", app="django.contrib.contenttypes"),
    rebind("django.core.paginator:sync_to_async", NATIVE, "AsyncPaginator", since=(6, 0)),
    replace("django.db.models.query:BaseIterable._async_generator", "django_aio.db.models:iterate", "async for closes its cursor on the loop"),
    *(replace(f"django.db.models.query:{name}._fetch_all", "django_aio.db.models:fetch_all", "tasks that share a queryset have the same rows, prefetched") for name in ("QuerySet", "RawQuerySet")),
    replace("django.db.models.query:QuerySet.aiterator", "django_aio.db.models:aiterator", "aiterator() streams, and closes with its generator"),
    add(f"{COMPILER}:SQLCompiler.aexecute_sql", "django_aio.db.models:aexecute_sql", "SQLCompiler.aexecute_sql()"),
    add(f"{COMPILER}:SQLCompiler.aresults_iter", "django_aio.db.models:aresults_iter", "SQLCompiler.aresults_iter()"),
    add(f"{COMPILER}:SQLCompiler.ahas_results", "django_aio.db.models:ahas_results", "SQLCompiler.ahas_results()"),
    add(f"{COMPILER}:SQLCompiler.aexplain_query", "django_aio.db.models:aexplain_query", "SQLCompiler.aexplain_query()"),
    add(f"{QUERY}.aget_count", "django_aio.db.models:aget_count", "Query.aget_count()"),
    add(f"{QUERY}.aget_aggregation", "django_aio.db.models:aget_aggregation", "Query.aget_aggregation()"),
    add(f"{QUERY}.ahas_results", "django_aio.db.models:ahas_results", "Query.ahas_results()"),
    add(f"{QUERY}.aexplain", "django_aio.db.models:aexplain", "Query.aexplain()"),
    add(f"{SUBQUERIES}:DeleteQuery.ado_query", "django_aio.db.models:ado_query", "DeleteQuery.ado_query()"),
    add(f"{SUBQUERIES}:DeleteQuery.adelete_batch", "django_aio.db.models:adelete_batch", "DeleteQuery.adelete_batch()"),
    add(f"{SUBQUERIES}:UpdateQuery.aupdate_batch", "django_aio.db.models:aupdate_batch", "UpdateQuery.aupdate_batch()"),
    # 6. Transactions.
    replace("django.db.transaction:Atomic.__enter__", "django_aio.db.atomic:enter", "tasks of one transaction take turns"),
    replace("django.db.transaction:Atomic.__exit__", "django_aio.db.atomic:leave", "tasks of one transaction take turns"),
    replace("django.db.backends.utils:CursorWrapper._execute_with_wrappers", "django_aio.db.transaction:execute_with_wrappers", "statements of one transaction take turns"),
    replace("django.db.transaction:get_connection", "django_aio.db.atomic:get_connection", "a block ends on the connection that it began on"),
    replace(f"{BASE}.run_and_clear_commit_hooks", "django_aio.db.transaction:run_and_clear_commit_hooks", "the transaction has ended for the hooks of on_commit()"),
    add("django.db.transaction:Atomic._recreate_cm", "django_aio.db.atomic:recreate", "each call of a decorated function has a block of its own"),
    replace(f"{BASE}.on_commit", "django_aio.db.transaction:on_commit", "coroutine functions on commit"),
    add(f"{BASE}.needs_rollback", "django_aio.db.transaction:needs_rollback", "each task marks the block that it is in"),
    add("django.db.transaction:aon_commit", "django_aio.db.transaction:aon_commit", "transaction.aon_commit()", early=True),
    add("django.db.transaction:Atomic.__aenter__", "django_aio.db.atomic:aenter", "async with transaction.atomic()"),
    add("django.db.transaction:Atomic.__aexit__", "django_aio.db.atomic:aexit", "async with transaction.atomic()"),
    add("django.db.transaction:Atomic.__call__", "django_aio.db.atomic:decorate", "@transaction.atomic on a coroutine function"),
    # 7. The request path: one request, one greenlet.
    replace(f"{HANDLER}.load_middleware", "django_aio.core.handlers.base:load_middleware", "the synchronous chain, inside the bridge"),
    replace(f"{HANDLER}.adapt_method_mode", "django_aio.core.handlers.base:adapt_method_mode", "coroutine middleware is awaited"),
    replace(f"{HANDLER}.make_view_atomic", "django_aio.core.handlers.base:make_view_atomic", "coroutine views are awaited, ATOMIC_REQUESTS too"),
    replace(f"{HANDLER}.check_response", "django_aio.core.handlers.base:check_response", "a response may render as a coroutine"),
    rebind("django.core.handlers.base:sync_to_async", NATIVE, "an answer of 400 or more is logged on the loop"),
    rebind("django.core.handlers.base:async_to_sync", "django_aio.core.handlers.base:OfARequest", "tasks of a coroutine view under WSGI share the thread's connection"),
    replace("django.core.handlers.base:import_string", "django_aio.core.handlers.base:import_middleware", "middleware runs where the policy says"),
    replace(f"{ASGI}.handle", "django_aio.core.handlers.asgi:handle", "the whole request runs in one greenlet"),
    replace(f"{ASGI}.__call__", "django_aio.core.handlers.asgi:call", "the lifespan protocol is accepted"),
    # 8. What the default middleware and the views of django.contrib.auth call.
    rebind("django.dispatch.dispatcher:sync_to_async", NATIVE, "Signal.asend() calls receivers on the loop"),
    rebind("django.contrib.sessions.backends.base:sync_to_async", POLICY, "session engines run where the policy says"),
    rebind("django.contrib.sessions.backends.db:sync_to_async", NATIVE, "the database session engine saves on the loop"),
    # 9. Caches.
    replace("django.core.cache:CacheHandler.create_connection", "django_aio.core.cache.backends.base:create_connection", "a cache knows its alias"),
    replace("django.core.cache.backends.base:BaseCache.get_or_set", "django_aio.core.cache.backends.base:get_or_set", "one computation for many who wait"),
    replace("django.core.cache.backends.base:BaseCache.aget_or_set", "django_aio.core.cache.backends.base:aget_or_set", "one computation for many who wait"),
    rebind("django.core.cache.backends.base:sync_to_async", POLICY, "cache backends work on the loop, where the policy says"),
    replace("django.core.cache.backends.memcached:BaseMemcachedCache._cache", "django_aio.core.cache.backends.memcached:cache_client", "pymemcache waits on the loop, other clients in a thread", on_import=True),
    replace("django.core.cache.backends.redis:RedisCacheClient.get_client", "django_aio.core.cache.backends.redis:get_client", "commands wait on the loop", needs=REDIS, on_import=True),
    # 10. Commands: runserver serves ASGI, check lists what hops.
    replace(f"{RUNSERVER}.add_arguments", "django_aio.core.management.commands.runserver:add_arguments", "runserver --wsgi", on_import=True),
    replace(f"{RUNSERVER}.run", "django_aio.core.management.commands.runserver:run", "runserver stops its server in order", on_import=True),
    replace(f"{RUNSERVER}.inner_run", "django_aio.core.management.commands.runserver:inner_run", "runserver chooses uvicorn", on_import=True),
    replace(f"{RUNSERVER}.get_handler", "django_aio.core.management.commands.runserver:get_handler", "runserver serves the ASGI application", on_import=True),
    replace(f"{RUNSERVER}.on_bind", "django_aio.core.management.commands.runserver:on_bind", "runserver says that it serves ASGI", on_import=True),
    replace("django.core.management.commands.check:Command.handle", "django_aio.core.management.commands.check:handle", "only check lists what hops", on_import=True),
    # 11. Streams and files.
    replace("django.http.response:StreamingHttpResponse._set_streaming_content", "django_aio.http:set_streaming_content", "all of a stream is closed, what middleware wrapped too"),
    replace(f"{ASGI}.run_get_response", "django_aio.core.handlers.sending:run_get_response", "a file response knows its request"),
    replace(f"{ASGI}.send_response", "django_aio.core.handlers.sending:send_response", "synchronous iterators and files are streamed, not read whole"),
    add(f"{STATIC}._aio_bridged", "django_aio.contrib.staticfiles.handlers:BRIDGED", "requests for static files run in the bridge", on_import=True),
    replace(f"{STATIC}.get_response_async", "django_aio.contrib.staticfiles.handlers:get_response_async", "a static file in one hand-over", on_import=True),
    replace("django.contrib.staticfiles.views:serve", "django_aio.contrib.staticfiles.views:serve", "the finders look in a thread", on_import=True),
    replace("django.views.static:serve", "django_aio.views.static:serve", "files are opened in a thread", on_import=True),
    # 12. The policy is asked about all that a request may call.
    replace("django.core.handlers.exception:get_resolver", "django_aio.core.handlers.exception:get_resolver", "error handlers run where the policy says, and may be coroutine functions"),
    rebind("django.core.handlers.exception:sync_to_async", NATIVE, "coroutine middleware gets its error responses on the loop"),
    replace("django.middleware.csrf:_get_failure_view", "django_aio.middleware.csrf:get_failure_view", "CSRF_FAILURE_VIEW runs where the policy says", on_import=True),
    replace("django.dispatch.dispatcher:Signal._live_receivers", "django_aio.dispatch:live_receivers", "receivers run where the policy says"),
    replace("django.dispatch.dispatcher:_run_parallel", "django_aio.dispatch:run_parallel", "receivers that run at the same time do not share a transaction", since=(6, 1)),
    rebind("django.utils.deprecation:sync_to_async", POLICY, "MiddlewareMixin's hooks run where the policy says"),
    rebind("django.contrib.auth.backends:sync_to_async", POLICY, "authentication backends run where the policy says", app="django.contrib.auth"),
    rebind("django.contrib.auth.decorators:sync_to_async", POLICY, "user_passes_test on the loop", app="django.contrib.auth"),
    # 13. Protocols: ASGI applications and websockets in the URLconf, start-up and shutdown.
    rebind("django.urls.conf:URLPattern", "django_aio.urls.resolvers:url_pattern", "path() to an ASGI application matches what is below it"),
    add("django.urls:asgi_view", "django_aio.urls:asgi_view", "ASGI applications as views", early=True),
    add("django.urls:websocket", "django_aio.urls:websocket", "websocket routes", early=True),
    add("django.core.signals:startup", "django_aio.core.signals:startup", "the server starts", early=True),
    add("django.core.signals:shutdown", "django_aio.core.signals:shutdown", "the server stops", early=True),
    # 14. Tests.
    replace("django.test.client:AsyncClientHandler.__call__", "django_aio.test.client:call", "each request of AsyncClient has a thread of its own for synchronous code", on_import=True),
    replace("django.test.utils:CaptureQueriesContext.__enter__", "django_aio.test.utils:enter", "assertNumQueries() in coroutines", on_import=True),
    replace("django.test.testcases:_DatabaseFailure.__call__", "django_aio.test.testcases:forbid", "coroutines of tests without databases get Django's own errors", on_import=True),
    # 15. Sessions and authentication.
    replace("django.contrib.sessions.backends.base:SessionBase.__init__", "django_aio.contrib.sessions.backends.base:init", "session engines run where the policy says"),
    replace("django.contrib.sessions.backends.base:SessionBase._aget_session", "django_aio.contrib.sessions.backends.base:aget_session", "tasks of one request load its session once"),
    replace("django.contrib.sessions.backends.cached_db:SessionStore.aexists", BRIDGED, "the cache is asked on the loop", on_import=True),
    *(replace(f"{FILES}.{name}", "django_aio.contrib.sessions.backends.file:in_thread", "files are read and written in a thread", on_import=True) for name in ("load", "create", "save", "exists", "delete", "clear_expired")),
    *(replace(f"{FILES}.{name}", BRIDGED, "files are read and written in a thread", on_import=True) for name in ("aload", "acreate", "asave", "aexists", "adelete", "aclear_expired")),
    replace("django.contrib.auth:import_string", "django_aio.contrib.auth:import_backend", "authentication backends run where the policy says", on_import=True),
    rebind("django.contrib.auth:sync_to_async", NATIVE, "the password of a user who does not exist is hashed by the executor", since=(6, 1), on_import=True),
    replace("django.contrib.auth:aupdate_session_auth_hash", BRIDGED, "request.user may have to be looked up", on_import=True),
    replace("django.contrib.auth.hashers:import_string", "django_aio.contrib.auth.hashers:import_hasher", "passwords are hashed by the executor", on_import=True),
    rebind("django.contrib.auth.hashers:sync_to_async", NATIVE, "acheck_password() hashes by the executor", since=(6, 0), on_import=True),
    replace("django.contrib.auth.hashers:acheck_password", BRIDGED, "acheck_password() hashes by the executor, where it does not use a thread yet", on_import=True),
    replace("django.contrib.auth.base_user:AbstractBaseUser.acheck_password", BRIDGED, "passwords are hashed by the executor, a hash that is renewed too", on_import=True),
    replace("django.contrib.auth.models:UserManager._acreate_user", BRIDGED, "acreate_user() hashes by the executor", app=AUTH, on_import=True),
    replace("django.contrib.auth.backends:ModelBackend.aauthenticate", BRIDGED, "the password of a user who does not exist is hashed by the executor", app=AUTH, on_import=True),
    replace("django.contrib.auth.decorators:user_passes_test", "django_aio.contrib.auth.decorators:user_passes_test", "what a test answers is awaited", app=AUTH),
    *(replace(f"django.contrib.auth:{name}", f"django_aio.contrib.auth.middleware:{'a' * (name[0] == 'a')}changes_user", "both spellings of a request's user agree", app=AUTH) for name in ("login", "logout", "alogin", "alogout")),
    replace("django.contrib.auth.middleware:get_user", "django_aio.contrib.auth.middleware:get_user", "the user of a request is looked up once", app=AUTH, on_import=True),
    replace("django.contrib.auth.middleware:auser", "django_aio.contrib.auth.middleware:auser", "the user of a request is looked up once", app=AUTH, on_import=True),
    replace("django.contrib.auth.mixins:UserPassesTestMixin.dispatch", "django_aio.contrib.auth.mixins:dispatch_if_passed", "async def test_func()", app=AUTH, on_import=True),
    replace("django.contrib.auth.mixins:PermissionRequiredMixin.dispatch", "django_aio.contrib.auth.mixins:dispatch_if_permitted", "async def has_permission()", app=AUTH, on_import=True),
    replace("django.views.generic.base:View.setup", "django_aio.views.generic.base:setup", "mixins and decorators on views with asynchronous handlers", on_import=True),
    # 16. Cache backends.
    replace("django.core.cache:import_string", "django_aio.core.cache.handler:import_backend", "cache backends run where the policy says"),
    replace(f"{FILE_CACHE}._createdir", f"{FILE_CACHE_BY}:createdir", "the directory is made in a thread", on_import=True),
    *(replace(f"{FILE_CACHE}.{name}", f"{FILE_CACHE_BY}:storing", "files are written in a thread", on_import=True) for name in ("set", "add")),
    *(replace(f"{FILE_CACHE}.{name}", f"{FILE_CACHE_BY}:in_thread", "files are read and written in a thread", on_import=True) for name in ("get", "touch", "delete", "has_key", "clear")),
    *(add(f"{FILE_CACHE}.{name}", f"{FILE_CACHE_BY}:{name}", "one hand-over to a thread for all keys", on_import=True) for name in ("get_many", "set_many", "delete_many", "incr", "incr_version")),
    *(add(f"{FILE_CACHE}.a{name}", f"{FILE_CACHE_BY}:a{name}", "one hand-over to a thread for all keys", on_import=True) for name in ("get_many", "set_many", "delete_many", "incr", "incr_version")),
    replace("django.utils.decorators:_multi_decorate", "django_aio.utils.decorators:multi_decorate", "a synchronous decorator round a handler is round its run"),
    replace("django.utils.decorators:make_middleware_decorator", "django_aio.utils.decorators:make_middleware_decorator", "cache_page() on coroutine views"),
    # 17. Templates and shortcuts.
    replace("django.template.base:Variable.resolve", "django_aio.template.base:resolve", "awaitables in templates are waited for"),
    replace("django.template.base:NodeList.render", "django_aio.template.streams:render_nodes", "a page is sent while it is rendered"),
    replace("django.template.base:Parser.find_filter", "django_aio.template.base:find_filter", "filters of either colour, where the policy says"),
    replace("django.template.base:Parser.extend_nodelist", "django_aio.template.base:extend_nodelist", "tags run where the policy says"),
    replace("django.template.library:TagHelperNode.__init__", "django_aio.template.library:init_helper", "functions of tags of either colour, where the policy says"),
    replace("django.template.loader_tags:BlockNode.super", "django_aio.template.loader_tags:collected", "block.super is a value in pages that are streamed"),
    replace("django.template.defaulttags:ForNode.__init__", "django_aio.template.defaulttags:init_for", "{% for %} over asynchronous iterables"),
    replace("django.template.engine:Engine.template_context_processors", "django_aio.template.engine:processors", "context processors of either colour, where the policy says"),
    replace("django.template.context:RequestContext.__init__", "django_aio.template.context:init_request_context", "a context's own processors likewise"),
    *(add(f"django.template.base:{name}.{method}", f"django_aio.template.base:{method}", f"{name}.{method}()", since=since) for name, since in (("Template", (5, 2)), ("PartialTemplate", (6, 0))) for method in ("arender", "astream")),
    *(add(f"django.template.backends.{engine}:Template.{method}", f"django_aio.template.backends.{engine}:{method}", f"Template.{method}()", needs=needs, on_import=True) for engine, needs in (("django", ()), ("jinja2", JINJA2)) for method in ("arender", "astream")),
    replace(f"{JINJA}:Jinja2.__init__", "django_aio.template.backends.jinja2:init_engine", "awaitables in templates are waited for", needs=JINJA2, on_import=True),
    replace(f"{JINJA}:Jinja2.template_context_processors", "django_aio.template.engine:processors", "context processors of either colour, where the policy says", needs=JINJA2, on_import=True),
    replace(f"{JINJA}:Template.render", "django_aio.template.backends.jinja2:render", "enable_async uses the running loop", needs=JINJA2, on_import=True),
    add("django.template.loader:arender_to_string", "django_aio.template.loader:arender_to_string", "arender_to_string()", early=True),
    add("django.template.response:SimpleTemplateResponse.arender", "django_aio.template.response:arender", "SimpleTemplateResponse.arender()"),
    *(add(f"django.shortcuts:{name}", f"django_aio.shortcuts:{name}", f"{name}()", early=True) for name in ("arender", "astream", "aredirect")),
    replace("django.shortcuts:resolve_url", "django_aio.shortcuts:resolve_url", "get_absolute_url() may be a coroutine function"),
    *(replace(f"django.shortcuts:{name}", BRIDGED, "managers may query") for name in ("aget_object_or_404", "aget_list_or_404")),
    # 18. Forms.
    add(f"{FORMS}.forms:BaseForm.__init_subclass__", "django_aio.forms.forms:form_init_subclass", "async def clean(), clean_<field>() and the rest; forms run where the policy says"),
    replace(f"{FORMS}.forms:BaseForm.full_clean", "django_aio.forms.forms:full_clean", "forms run where the policy says"),
    replace(f"{FORMS}.forms:BaseForm.get_initial_for_field", "django_aio.forms.forms:get_initial_for_field", "initial values from coroutine functions"),
    *(add(f"{FORMS}.forms:BaseForm.{name}", f"django_aio.forms.forms:{name}", f"await form.{name}()") for name in ("ais_valid", "aerrors", "afull_clean", "ahas_changed")),
    add(f"{FORMS}.utils:RenderableMixin.arender", "django_aio.forms.utils:arender", "await form.arender()"),
    add(f"{FORMS}.formsets:BaseFormSet.__init_subclass__", "django_aio.forms.formsets:formset_init_subclass", "coroutine functions in formsets; formsets run where the policy says"),
    replace(f"{FORMS}.formsets:BaseFormSet.full_clean", "django_aio.forms.forms:full_clean", "formsets run where the policy says"),
    *(add(f"{FORMS}.formsets:BaseFormSet.{name}", f"django_aio.forms.forms:{name}", f"await formset.{name}()") for name in ("ais_valid", "aerrors", "afull_clean", "ahas_changed")),
    *(add(f"{target}:aall_valid", "django_aio.forms.formsets:aall_valid", "forms.aall_valid()", early=True) for target in (f"{FORMS}.formsets", FORMS)),
    *(replace(f"{FORMS}.models:{name}.save", "django_aio.forms.subclasses:entry", "forms are saved where the policy says") for name in ("BaseModelForm", "BaseModelFormSet")),
    *(add(f"{FORMS}.models:BaseModelForm.{name}", f"django_aio.forms.models:{name}", f"await form.{name}()") for name in ("asave", "asave_m2m")),
    *(add(f"{FORMS}.models:BaseModelFormSet.{name}", f"django_aio.forms.models:{name}", f"await formset.{name}()") for name in ("asave", "asave_m2m", "asave_new", "asave_existing", "adelete_existing")),
    replace(f"{FORMS}.models:model_to_dict", "django_aio.forms.models:model_to_dict", "a coroutine makes a form of an instance"),
    add(f"{FORMS}.fields:Field.__init_subclass__", "django_aio.forms.fields:field_init_subclass", "async def clean(), validate() and the rest of form fields"),
    rebind(f"{FORMS}.fields:normalize_choices", "django_aio.forms.fields:normalize_choices", "choices from coroutine functions"),
    add(f"{FORMS}.boundfield:BoundField.__init_subclass__", "django_aio.forms.boundfield:bound_field_init_subclass", "coroutine functions in bound fields"),
    add(f"{FORMS}.widgets:Widget.__init_subclass__", "django_aio.forms.widgets:widget_init_subclass", "coroutine functions in widgets"),
    *(replace(f"{target}:Field.run_validators", "django_aio.forms.validation:run_validators", "validators are awaited, and run where the policy says") for target in (f"{FORMS}.fields", "django.db.models.fields")),
    add("django.db.models.base:Model.__init_subclass__", "django_aio.forms.validation:model_init_subclass", "async def clean() of models"),
    *(add(f"django.db.models.base:Model.{name}", f"django_aio.forms.validation:{name}", f"await instance.{name}()") for name in ("afull_clean", "aclean_fields", "aclean", "avalidate_unique", "avalidate_constraints")),
    # 19. Generic views and the admin: coroutine functions in the place of methods.
    add(f"{VIEW}.__init_subclass__", "django_aio.views.generic.base:init_subclass", "async def in the place of the methods of views", on_import=True),
    replace(f"{VIEW}.as_view", "django_aio.views.generic.base:as_view", "methods decorated later are hooks too", on_import=True),
    replace(f"{VIEW}.view_is_async", "django_aio.views.generic.base:view_is_async", "asynchronous handlers next to Django's own", on_import=True),
    add(f"{ADMIN}.options:BaseModelAdmin.__init_subclass__", f"{ADMIN_BY}.options:init_subclass", "async def in the place of the methods of ModelAdmin and inlines", on_import=True),
    add(f"{ADMIN}.sites:AdminSite.__init_subclass__", f"{ADMIN_BY}.sites:init_subclass", "async def in the place of the methods of AdminSite", on_import=True),
    add(f"{ADMIN}.filters:ListFilter.__init_subclass__", f"{ADMIN_BY}.filters:init_subclass", "async def in the place of the methods of list filters", on_import=True),
    add(f"{ADMIN}.views.main:ChangeList.__init_subclass__", f"{ADMIN_BY}.views.main:init_subclass", "async def in the place of the methods of ChangeList", on_import=True),
    replace(f"{ADMIN}.options:ModelAdmin.get_actions", f"{ADMIN_BY}.options:get_actions", "actions as coroutine functions, or where the policy says", on_import=True),
    replace(f"{ADMIN}.options:ModelAdmin._get_actions_with_action_location", f"{ADMIN_BY}.options:get_actions", "the same for actions that an override adds", since=(6, 1), on_import=True),
    replace(f"{ADMIN}.sites:AdminSite.admin_view", f"{ADMIN_BY}.sites:admin_view", "coroutine functions as views of the admin", on_import=True),
    replace(f"{ADMIN}.sites:AdminSite._build_app_dict", f"{ADMIN_BY}.sites:build_app_dict", "permissions are asked where the policy says", on_import=True),
    replace(f"{ADMIN}.views.autocomplete:AutocompleteJsonView.get", f"{ADMIN_BY}.views.autocomplete:get", "admin classes are searched where the policy says", on_import=True),
    rebind(f"{ADMIN}.helpers:lookup_field", f"{ADMIN_BY}.utils:lookup_field", "coroutine functions in readonly_fields", on_import=True),
    rebind(f"{ADMIN}.templatetags.admin_list:lookup_field", f"{ADMIN_BY}.utils:lookup_field", "coroutine functions in list_display", on_import=True),
    # 20. What of Django's own reads files or computes for more than 5 ms goes to a thread.
    replace("django.contrib.admindocs.views:BaseAdminDocsView", BLOCKING, "the source and the templates of a site are read in a thread", on_import=True),
    *(replace(f"django.contrib.sitemaps.views:{name}", BLOCKING, "sitemaps are computed in a thread, by a project's classes", on_import=True) for name in ("index", "sitemap")),
    replace("django.views.i18n:JavaScriptCatalog.get", IN_THREAD, "catalogs are read in a thread", on_import=True),
    replace("django.views.debug:technical_500_response", IN_THREAD, "the page of an error reads the source", on_import=True),
    replace("django.middleware.gzip:compress_string", "django_aio.middleware.gzip:compress_string", "large pages are compressed in a thread", on_import=True),
    # 21. What keeps memory flat.
    replace("django.template.response:select_template", "django_aio.template.response:select_template", "names that are known to be missing are not looked for again"),
    replace("django.template.backends.django:make_context", "django_aio.template.context:make_context", "what a page showed is freed when it is rendered"),
    # 22. Packages.
    replace("channels.consumer:AsyncConsumer.dispatch", "django_aio.compat.channels:dispatch", "an idle websocket holds no connection", needs=("channels",), on_import=True),
    *(replace(f"debug_toolbar.panels.sql.{name}:wrap_cursor", "django_aio.compat.debug_toolbar:wrap_cursor", "the SQL panel shows what tasks ask", app="debug_toolbar", on_import=True) for name in ("panel", "tracking")),
    replace("silk.collector:local", "django_aio.compat.silk:local", "what silk collects of a request is the request's", app="silk", on_import=True),
    replace("silk.collector:DataCollector.clear", "django_aio.compat.silk:clear", "and begins with it", app="silk", on_import=True),
    # 23. What makes Django do less work: last, if at all.
    *SPEEDUPS,
)
# fmt: on

# On this Django.
SERIES: tuple[Patch, ...] = tuple(patch for patch in _SERIES if patch.since <= django.VERSION)
LEFT_OUT = "left out by AIO['SPEEDUPS']"

_lock = threading.Lock()


def is_backend(patch: Patch) -> bool:
    """Whether the patch waits for its database backend to be used."""
    return bool(patch.needs)


def apply_series() -> None:
    """Apply every patch but those of database backends. Idempotent.

    Those of a module that few processes import wait until it is imported.
    """
    with _lock:
        for patch in SERIES:
            if patch in SPEEDUPS and not conf.speedups():
                patch.reason = patch.reason or LEFT_OUT
            elif patch.on_import:
                when_imported(patch.module, patch.apply, patch.by.partition(":")[0])
            elif not is_backend(patch):
                patch.apply()


def apply_early() -> None:
    """Apply the patches of names that modules of a project import: when the apps are set up.

    Before the modules of apps and models are imported, then: `get_absolute_url()` is often such a
    module's, and the new names are imported like Django's own.
    """
    with _lock:
        for patch in SERIES:
            if patch.early:
                patch.apply()


def apply_backend(module: str) -> None:
    """Apply the patches of one backend module, such as django.db.backends.sqlite3.base."""
    with _lock:
        for patch in SERIES:
            if is_backend(patch) and patch.module == module:
                patch.apply()


def apply_all() -> None:
    """Apply every patch whose requirements are installed, for `python -m django_aio series`."""
    apply_series()
    for patch in SERIES:
        if not patch.on_import or patch.reason == LEFT_OUT:
            continue
        if not patch.app or apps.is_installed(patch.app):
            with contextlib.suppress(ImportError):
                importlib.import_module(patch.module)
        patch.apply()  # says what it needs, where that is not installed
    for module in dict.fromkeys(patch.module for patch in SERIES if is_backend(patch)):
        apply_backend(module)


def conflicts() -> list[Patch]:
    """The patches that Django's present source does not allow."""
    return [patch for patch in SERIES if patch.status is Status.CONFLICT]


def drifted() -> list[Patch]:
    """The applied patches whose target is not the source they were written against."""
    return [patch for patch in SERIES if patch.drifted]
