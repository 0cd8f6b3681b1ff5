"""The request path: handlers, middleware, signals, caches, URLs, files, commands, tests."""

from django_aio.patching import Patch
from django_aio.series.rows import add, of, rebind, replace

TABLE: tuple[Patch, ...] = (
    *of(
        "django.core.handlers.base",
        replace(
            "BaseHandler.load_middleware",
            "core.handlers.base:load_middleware",
            "the synchronous chain, inside the bridge",
        ),
        replace(
            "BaseHandler.adapt_method_mode",
            "core.handlers.base:adapt_method_mode",
            "coroutine middleware is awaited",
        ),
        replace(
            "BaseHandler.make_view_atomic",
            "core.handlers.base:make_view_atomic",
            "coroutine views are awaited, ATOMIC_REQUESTS too",
        ),
        replace(
            "BaseHandler.check_response",
            "core.handlers.base:check_response",
            "a response may render as a coroutine",
        ),
        rebind(
            "sync_to_async",
            "utils.asyncio:native",
            "an answer of 400 or more is logged on the loop",
        ),
        rebind(
            "async_to_sync",
            "core.handlers.base:OfARequest",
            "tasks of a coroutine view under WSGI share the thread's connection",
        ),
        replace(
            "import_string",
            "core.handlers.base:import_middleware",
            "middleware runs where the policy says",
        ),
    ),
    *of(
        "django.core.handlers.asgi",
        replace(
            "ASGIHandler.handle",
            "core.handlers.asgi:handle",
            "the whole request runs in one greenlet",
        ),
        replace(
            "ASGIHandler.__call__", "core.handlers.asgi:call", "the lifespan protocol is accepted"
        ),
        replace(
            "ASGIHandler.run_get_response",
            "core.handlers.sending:run_get_response",
            "a file response knows its request",
        ),
        replace(
            "ASGIHandler.send_response",
            "core.handlers.sending:send_response",
            "synchronous iterators and files are streamed, not read whole",
        ),
    ),
    *of(
        "django.dispatch.dispatcher",
        rebind(
            "sync_to_async", "utils.asyncio:native", "Signal.asend() calls receivers on the loop"
        ),
        replace(
            "Signal._live_receivers",
            "dispatch:live_receivers",
            "receivers run where the policy says",
        ),
        replace(
            "_run_parallel",
            "dispatch:run_parallel",
            "receivers that run at the same time do not share a transaction",
            since=(6, 1),
        ),
    ),
    *of(
        "django.core.cache",
        replace(
            "CacheHandler.create_connection",
            "core.cache.backends.base:create_connection",
            "a cache knows its alias",
        ),
        replace(
            "import_string",
            "core.cache.handler:import_backend",
            "cache backends run where the policy says",
        ),
    ),
    *of(
        "django.core.cache.backends.base",
        replace(
            "BaseCache.{}",
            "core.cache.backends.base:{}",
            "one computation for many who wait",
            names="get_or_set aget_or_set",
        ),
        rebind(
            "sync_to_async",
            "policy:by_policy",
            "cache backends work on the loop, where the policy says",
        ),
    ),
    *of(
        "django.core.cache.backends.memcached",
        replace(
            "BaseMemcachedCache._cache",
            "core.cache.backends.memcached:cache_client",
            "pymemcache waits on the loop, other clients in a thread",
        ),
        on_import=True,
    ),
    *of(
        "django.core.cache.backends.redis",
        replace(
            "RedisCacheClient.get_client",
            "core.cache.backends.redis:get_client",
            "commands wait on the loop",
        ),
        needs=("redis",),
        on_import=True,
    ),
    *of(
        "django.core.management.commands.runserver",
        replace(
            "Command.add_arguments",
            "core.management.commands.runserver:add_arguments",
            "runserver --wsgi",
        ),
        replace(
            "Command.run",
            "core.management.commands.runserver:run",
            "runserver stops its server in order",
        ),
        replace(
            "Command.inner_run",
            "core.management.commands.runserver:inner_run",
            "runserver chooses uvicorn",
        ),
        replace(
            "Command.get_handler",
            "core.management.commands.runserver:get_handler",
            "runserver serves the ASGI application",
        ),
        replace(
            "Command.on_bind",
            "core.management.commands.runserver:on_bind",
            "runserver says that it serves ASGI",
        ),
        on_import=True,
    ),
    *of(
        "django.core.management.commands.check",
        replace(
            "Command.handle", "core.management.commands.check:handle", "only check lists what hops"
        ),
        on_import=True,
    ),
    *of(
        "django.http.response",
        replace(
            "StreamingHttpResponse._set_streaming_content",
            "http:set_streaming_content",
            "all of a stream is closed, what middleware wrapped too",
        ),
    ),
    *of(
        "django.views.static",
        replace("serve", "views.static:serve", "files are opened in a thread"),
        on_import=True,
    ),
    *of(
        "django.core.handlers.exception",
        replace(
            "get_resolver",
            "core.handlers.exception:get_resolver",
            "error handlers run where the policy says, and may be coroutine functions",
        ),
        rebind(
            "sync_to_async",
            "utils.asyncio:native",
            "coroutine middleware gets its error responses on the loop",
        ),
    ),
    *of(
        "django.middleware.csrf",
        replace(
            "_get_failure_view",
            "middleware:get_failure_view",
            "CSRF_FAILURE_VIEW runs where the policy says",
        ),
        on_import=True,
    ),
    *of(
        "django.utils.deprecation",
        rebind(
            "sync_to_async", "policy:by_policy", "MiddlewareMixin's hooks run where the policy says"
        ),
    ),
    *of(
        "django.urls.conf",
        rebind(
            "URLPattern",
            "protocols.routes:url_pattern",
            "path() to an ASGI application matches what is below it",
        ),
    ),
    *of(
        "django.urls",
        add("asgi_view", "urls:asgi_view", "ASGI applications as views"),
        add("websocket", "urls:websocket", "websocket routes"),
        early=True,
    ),
    *of(
        "django.core.signals",
        add("startup", "core.signals:startup", "the signal of ASGI's lifespan: the server starts"),
        add("shutdown", "core.signals:shutdown", "the server stops"),
        early=True,
    ),
    *of(
        "django.test.client",
        replace(
            "AsyncClientHandler.__call__",
            "test.client:call",
            "each request of AsyncClient has a thread of its own for synchronous code",
        ),
        on_import=True,
    ),
    *of(
        "django.test.utils",
        replace(
            "CaptureQueriesContext.__enter__",
            "test.utils:enter",
            "assertNumQueries() in coroutines",
        ),
        on_import=True,
    ),
    *of(
        "django.test.testcases",
        replace(
            "_DatabaseFailure.__call__",
            "test.testcases:forbid",
            "coroutines of tests without databases get Django's own errors",
        ),
        on_import=True,
    ),
    *of(
        "django.core.cache.backends.filebased",
        replace(
            "FileBasedCache._createdir",
            "core.cache.backends.filebased:createdir",
            "the directory is made in a thread",
        ),
        replace(
            "FileBasedCache.{}",
            "core.cache.backends.filebased:storing",
            "files are written in a thread",
            names="set add",
        ),
        replace(
            "FileBasedCache.{}",
            "threads:in_thread_from_bridge",
            "files are read and written in a thread",
            names="get touch delete has_key clear",
        ),
        add(
            "FileBasedCache.{}",
            "core.cache.backends.filebased:{}",
            "the whole call is one way to a thread",
            names="get_many set_many delete_many incr incr_version "
            "aget_many aset_many adelete_many aincr aincr_version",
        ),
        on_import=True,
    ),
    *of(
        "django.utils.decorators",
        replace(
            "_multi_decorate",
            "utils.decorators:multi_decorate",
            "a synchronous decorator round a handler is round its run",
        ),
        replace(
            "make_middleware_decorator",
            "utils.decorators:make_middleware_decorator",
            "cache_page() on coroutine views",
        ),
    ),
    *of(
        "django.views.i18n",
        replace("JavaScriptCatalog.get", "policy:in_thread", "catalogs are read in a thread"),
        on_import=True,
    ),
    *of(
        "django.views.debug",
        replace(
            "technical_500_response", "policy:in_thread", "the page of an error reads the source"
        ),
        on_import=True,
    ),
    *of(
        "django.middleware.gzip",
        replace(
            "compress_string",
            "middleware:compress_string",
            "large pages are compressed in a thread",
        ),
        on_import=True,
    ),
)
