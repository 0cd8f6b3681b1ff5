"""The public names with their signatures.

A difference here is a change that users see: it belongs into the changelog too.
"""

import importlib
import inspect

import pytest

import django_aio

API = {
    "django_aio": """
        class BridgeError(RuntimeError)
        blocking(func)
        cooperative(func)
        hold_connection(using='default')
        in_bridge()
        async release_connection(using='default')
        async run(func, /, *args, **kwargs)
        wait(awaitable)
    """,
    "django_aio.bridge": """
        class BridgeError(RuntimeError)
        in_bridge()
        refuse_monkey_patching()
        async run(func, /, *args, **kwargs)
        wait(awaitable)
    """,
    "django_aio.policy": """
        class Obstacle(tuple)
        blocking(func)
        by_policy(func=None, **options)
        cooperative(func)
        in_thread(func, kind='function', of=None)
        is_cooperative(func)
        log_thread(kind, func)
        obstacle(func)
    """,
    "django_aio.conf": """
        is_below(module, names)
        listed()
        on_list(module)
        speedups()
    """,
    "django_aio.patching": """
        class Patch(object)
            module
            drifted
            apply(self)
            __init__(self, verb, target, by, why, needs=(), app='', since=(0, 0), on_import=False, early=False, backend=False, aside=False)
        class PatchConflictError(Exception)
        class Status(Enum)
        class Verb(Enum)
        fingerprint(upstream)
        fingerprints()
        resolve(name)
        series_of_django()
        when_imported(module, action, uses='')
    """,  # noqa: E501
    "django_aio.series": """
        apply_all()
        apply_backend(module)
        apply_early()
        apply_series()
        conflicts()
        drifted()
    """,
    "django_aio.apps": """
        class DjangoAIOConfig(AppConfig)
            __init__(self, app_name, app_module)
            ready(self)
        refuse_missing_driver()
        refuse_unsupported_django()
    """,
    "django_aio.checks": """
        check_drivers(app_configs, **kwargs)
        check_place(app_configs, **kwargs)
        check_series(app_configs, **kwargs)
    """,
    "django_aio.checks.threads": """
        check_backends(app_configs, **kwargs)
        check_middleware(app_configs, **kwargs)
        check_receivers(app_configs, **kwargs)
        check_views(app_configs, **kwargs)
    """,
    "django_aio.checks.listed": """
        check_locks(app_configs, **kwargs)
        check_names(app_configs, **kwargs)
        check_thread_state(app_configs, **kwargs)
    """,
    "django_aio.checks.templates": """
        check_context_processors(app_configs, **kwargs)
        check_libraries(app_configs, **kwargs)
    """,
    "django_aio.shortcuts": """
        async aredirect(to, *args, **kwargs)
        async arender(request, template_name, context=None, content_type=None, status=None, using=None)
        astream(request, template_name, context=None, content_type=None, status=None, using=None)
        resolve_url(upstream)
    """,  # noqa: E501
    "django_aio.template.backends.django": """
        async arender(self, context=None, request=None)
        astream(self, context=None, request=None)
    """,
    "django_aio.template.loader": """
        async arender_to_string(template_name, context=None, request=None, using=None)
    """,
    "django_aio.urls": """
        asgi_view(application)
        websocket(route, view, kwargs=None, name=None)
    """,
    "django_aio.websocket": """
        class WebSocket(object)
            __init__(self, scope, receive, send)
            subprotocols
            async accept(self, subprotocol=None, headers=())
            async receive(self)
            async receive_json(self)
            async send(self, data)
            async send_json(self, data)
            async close(self, code=1000, reason='')
        class WebSocketDisconnect(ConnectionError)
            __init__(self, code=1006, reason='')
    """,
    "django_aio.forms.formsets": """
        async aall_valid(formsets)
    """,
    "django_aio.core.management.commands.runserver": """
        add_arguments(upstream)
        get_handler(upstream)
        inner_run(upstream)
        on_bind(upstream)
        run(upstream)
    """,
    "django_aio.core.servers.basehttp": """
        class ASGIServer(WSGIServer)
            set_app(self, application)
            serve_forever(self, poll_interval=0.5)
        get_internal_asgi_application()
        stop(status)
    """,
    "django_aio.test": """
        class ASGILiveServerTestCase(LiveServerTestCase)
        class ASGIStaticLiveServerTestCase(ASGILiveServerTestCase)
    """,
    "django_aio.test.live": """
        class ASGILiveServerTestCase(LiveServerTestCase)
        class ASGILiveServerThread(LiveServerThread)
            __init__(self, host, static_handler, **kwargs)
            get_application(self)
            start(self)
            run(self)
            settle(self)
            terminate(self)
        class ASGIStaticLiveServerTestCase(ASGILiveServerTestCase)
    """,
}


def described(module):
    """One line for each public function and class of a module."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name, value in vars(module).items() if is_own(module, name, value)]
    return [line for name in sorted(names) for line in describe(name, getattr(module, name))]


def is_own(module, name, value):
    defined = inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value))
    return defined and value.__module__ == module.__name__ and not name.startswith("_")


def describe(name, value):
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__)
        yield f"class {name}({bases})"
        for attribute, found in vars(value).items():
            if inspect.isfunction(found) and (attribute == "__init__" or attribute[0] != "_"):
                yield f"    {signature(attribute, found)}"
            elif isinstance(found, property):
                yield f"    {attribute}"
    else:
        yield signature(name, value)


def signature(name, function):
    """The signature without annotations: mypy looks after those."""
    found = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    text = found.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    return f"{'async ' * inspect.iscoroutinefunction(function)}{name}{text}"


@pytest.mark.parametrize("module", API)
def test_public_names(module):
    expected = inspect.cleandoc(API[module]).splitlines()
    assert described(importlib.import_module(module)) == expected


def test_all_names_of_the_package():
    assert django_aio.__all__ == [
        "BridgeError",
        "blocking",
        "cooperative",
        "hold_connection",
        "in_bridge",
        "release_connection",
        "run",
        "wait",
    ]
