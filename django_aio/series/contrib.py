"""django.contrib: auth, sessions, the admin, static files."""

from django_aio.patching import Patch
from django_aio.series.rows import add, of, rebind, replace

TABLE: tuple[Patch, ...] = (
    *of(
        "django.contrib.sessions.backends.base",
        rebind("sync_to_async", "policy:by_policy", "session engines run where the policy says"),
        add(
            "SessionBase.__new__",
            "contrib.sessions.backends.base:new",
            "session engines run where the policy says",
        ),
        replace(
            "SessionBase._aget_session",
            "contrib.sessions.backends.base:aget_session",
            "tasks of one request load its session once",
        ),
    ),
    *of(
        "django.contrib.sessions.backends.db",
        rebind(
            "sync_to_async", "utils.asyncio:native", "the database session engine saves on the loop"
        ),
    ),
    *of(
        "django.contrib.staticfiles.handlers",
        add(
            "ASGIStaticFilesHandler._aio_bridged",
            "contrib.staticfiles.handlers:BRIDGED",
            "requests for static files run in the bridge",
        ),
        replace(
            "ASGIStaticFilesHandler.get_response_async",
            "contrib.staticfiles.handlers:get_response_async",
            "a static file is found and read in one way to a thread",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.staticfiles.views",
        replace("serve", "views.static:serve", "the finders look in a thread"),
        on_import=True,
    ),
    *of(
        "django.contrib.auth.backends",
        rebind(
            "sync_to_async", "policy:by_policy", "authentication backends run where the policy says"
        ),
        replace(
            "ModelBackend.aauthenticate",
            "awaiting:bridged",
            "the password of a user who does not exist is hashed by the executor",
            on_import=True,
        ),
        app="django.contrib.auth",
    ),
    *of(
        "django.contrib.auth.decorators",
        rebind("sync_to_async", "policy:by_policy", "user_passes_test on the loop"),
        replace(
            "user_passes_test",
            "contrib.auth.access:user_passes_test",
            "what a test answers is awaited",
        ),
        app="django.contrib.auth",
    ),
    *of(
        "django.contrib.sessions.backends.cached_db",
        replace("SessionStore.aexists", "awaiting:bridged", "the cache is asked on the loop"),
        on_import=True,
    ),
    *of(
        "django.contrib.sessions.backends.file",
        replace(
            "SessionStore.{}",
            "threads:in_thread_from_bridge",
            "files are read and written in a thread",
            names="load create save exists delete clear_expired",
        ),
        replace(
            "SessionStore.{}",
            "awaiting:bridged",
            "files are read and written in a thread",
            names="aload acreate asave aexists adelete aclear_expired",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.auth",
        replace(
            "import_string",
            "contrib.auth:import_backend",
            "authentication backends run where the policy says",
            on_import=True,
        ),
        rebind(
            "sync_to_async",
            "utils.asyncio:native",
            "the password of a user who does not exist is hashed by the executor",
            since=(6, 1),
            on_import=True,
        ),
        replace(
            "aupdate_session_auth_hash",
            "awaiting:bridged",
            "request.user may have to be looked up",
            on_import=True,
        ),
        replace(
            "{}",
            "contrib.auth.middleware:changes_user",
            "both spellings of a request's user agree",
            names="login logout",
            app="django.contrib.auth",
        ),
        replace(
            "{}",
            "contrib.auth.middleware:achanges_user",
            "both spellings of a request's user agree",
            names="alogin alogout",
            app="django.contrib.auth",
        ),
    ),
    *of(
        "django.contrib.auth.hashers",
        replace(
            "import_string",
            "contrib.auth.hashers:import_hasher",
            "passwords are hashed by the executor",
        ),
        rebind(
            "sync_to_async",
            "utils.asyncio:native",
            "acheck_password() hashes by the executor",
            since=(6, 0),
        ),
        replace(
            "acheck_password",
            "awaiting:bridged",
            "acheck_password() hashes by the executor, where it does not use a thread yet",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.auth.base_user",
        replace(
            "AbstractBaseUser.acheck_password",
            "awaiting:bridged",
            "passwords are hashed by the executor, a hash that is renewed too",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.auth.models",
        replace(
            "UserManager._acreate_user",
            "awaiting:bridged",
            "acreate_user() hashes by the executor",
        ),
        app="django.contrib.auth",
        on_import=True,
    ),
    *of(
        "django.contrib.auth.middleware",
        replace(
            "{}",
            "contrib.auth.middleware:{}",
            "the user of a request is looked up once",
            names="get_user auser",
        ),
        app="django.contrib.auth",
        on_import=True,
    ),
    *of(
        "django.contrib.auth.mixins",
        replace(
            "UserPassesTestMixin.dispatch",
            "contrib.auth.access:dispatch_if_passed",
            "async def test_func()",
        ),
        replace(
            "PermissionRequiredMixin.dispatch",
            "contrib.auth.access:dispatch_if_permitted",
            "async def has_permission()",
        ),
        app="django.contrib.auth",
        on_import=True,
    ),
    *of(
        "django.contrib.admin.options",
        add(
            "BaseModelAdmin.__init_subclass__",
            "contrib.admin.options:admin_init_subclass",
            "async def in the place of the methods of ModelAdmin and inlines",
        ),
        replace(
            "ModelAdmin.get_actions",
            "contrib.admin.options:get_actions",
            "actions as coroutine functions, or where the policy says",
        ),
        replace(
            "ModelAdmin._get_actions_with_action_location",
            "contrib.admin.options:get_actions",
            "the same for actions that an override adds",
            since=(6, 1),
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.admin.sites",
        add(
            "AdminSite.__init_subclass__",
            "contrib.admin.sites:init_subclass",
            "async def in the place of the methods of AdminSite",
        ),
        replace(
            "AdminSite.admin_view",
            "contrib.admin.sites:admin_view",
            "coroutine functions as views of the admin",
        ),
        replace(
            "AdminSite._build_app_dict",
            "contrib.admin.sites:build_app_dict",
            "permissions are asked where the policy says",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.admin.filters",
        add(
            "ListFilter.__init_subclass__",
            "contrib.admin.options:filter_init_subclass",
            "async def in the place of the methods of list filters",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.admin.views.main",
        add(
            "ChangeList.__init_subclass__",
            "contrib.admin.options:changelist_init_subclass",
            "async def in the place of the methods of ChangeList",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.admin.views.autocomplete",
        replace(
            "AutocompleteJsonView.get",
            "contrib.admin.sites:autocomplete",
            "admin classes are searched where the policy says",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.admin.helpers",
        rebind(
            "lookup_field",
            "contrib.admin.options:lookup_field",
            "coroutine functions in readonly_fields",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.admin.templatetags.admin_list",
        rebind(
            "lookup_field",
            "contrib.admin.options:lookup_field",
            "coroutine functions in list_display",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.admindocs.views",
        replace(
            "BaseAdminDocsView",
            "policy:blocking",
            "the source and the templates of a site are read in a thread",
        ),
        on_import=True,
    ),
    *of(
        "django.contrib.sitemaps.views",
        replace(
            "{}",
            "policy:blocking",
            "sitemaps are computed in a thread, by a project's classes",
            names="index sitemap",
        ),
        on_import=True,
    ),
)
