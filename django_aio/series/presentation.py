"""The parts that make a page: templates, forms, generic views, shortcuts."""

from django_aio.patching import Patch
from django_aio.series.rows import add, of, rebind, replace

TABLE: tuple[Patch, ...] = (
    *of(
        "django.core.paginator",
        rebind("sync_to_async", "utils.asyncio:native", "AsyncPaginator"),
        since=(6, 0),
    ),
    *of(
        "django.views.generic.base",
        replace(
            "View.setup",
            "views.generic.base:setup",
            "mixins and decorators on views with asynchronous handlers",
        ),
        add(
            "View.__init_subclass__",
            "views.generic.base:init_subclass",
            "async def in the place of the methods of views",
        ),
        replace(
            "View.as_view", "views.generic.base:as_view", "methods decorated later are hooks too"
        ),
        replace(
            "View.view_is_async",
            "views.generic.base:view_is_async",
            "asynchronous handlers next to Django's own",
        ),
        on_import=True,
    ),
    *of(
        "django.template.base",
        replace(
            "Variable.resolve", "template.base:resolve", "awaitables in templates are waited for"
        ),
        replace(
            "NodeList.render",
            "template.streams:render_nodes",
            "a page is sent while it is rendered",
        ),
        replace(
            "Parser.find_filter",
            "template.base:find_filter",
            "filters of either colour, where the policy says",
        ),
        replace(
            "Parser.extend_nodelist",
            "template.base:extend_nodelist",
            "tags run where the policy says",
        ),
        add(
            "Template.{}",
            "template.base:{}",
            "Template.{}()",
            names="arender astream",
            since=(5, 2),
        ),
        add(
            "PartialTemplate.{}",
            "template.base:{}",
            "PartialTemplate.{}()",
            names="arender astream",
            since=(6, 0),
        ),
    ),
    *of(
        "django.template.library",
        replace(
            "TagHelperNode.__init__",
            "template.calls:init_helper",
            "functions of tags of either colour, where the policy says",
        ),
    ),
    *of(
        "django.template.loader_tags",
        replace(
            "BlockNode.super",
            "template.streams:collected",
            "block.super is a value in pages that are streamed",
        ),
    ),
    *of(
        "django.template.defaulttags",
        replace(
            "ForNode.__init__",
            "template.defaulttags:init_for",
            "{% for %} over asynchronous iterables",
        ),
    ),
    *of(
        "django.template.engine",
        replace(
            "Engine.template_context_processors",
            "template.calls:processors",
            "context processors of either colour, where the policy says",
        ),
    ),
    *of(
        "django.template.context",
        replace(
            "RequestContext.__init__",
            "template.context:init_request_context",
            "a context's own processors likewise",
        ),
    ),
    *of(
        "django.template.backends.django",
        add(
            "Template.{}",
            "template.backends.django:{}",
            "Template.{}()",
            names="arender astream",
            on_import=True,
        ),
        replace(
            "make_context",
            "template.context:make_context",
            "what a page showed is freed when it is rendered",
        ),
    ),
    *of(
        "django.template.backends.jinja2",
        add("Template.{}", "template.backends.jinja2:{}", "Template.{}()", names="arender astream"),
        replace(
            "Jinja2.__init__",
            "template.backends.jinja2:init_engine",
            "awaitables in templates are waited for",
        ),
        replace(
            "Jinja2.template_context_processors",
            "template.calls:processors",
            "context processors of either colour, where the policy says",
        ),
        replace(
            "Template.render",
            "template.backends.jinja2:render",
            "enable_async uses the running loop",
        ),
        needs=("jinja2",),
        on_import=True,
    ),
    *of(
        "django.template.loader",
        add("arender_to_string", "template.loader:arender_to_string", "arender_to_string()"),
        early=True,
    ),
    *of(
        "django.template.response",
        add(
            "SimpleTemplateResponse.arender",
            "template.response:arender",
            "SimpleTemplateResponse.arender()",
        ),
        replace(
            "select_template",
            "template.response:select_template",
            "names that are known to be missing are not looked for again",
        ),
    ),
    *of(
        "django.shortcuts",
        add("{}", "shortcuts:{}", "{}()", names="arender astream aredirect", early=True),
        replace(
            "resolve_url", "shortcuts:resolve_url", "get_absolute_url() may be a coroutine function"
        ),
        replace(
            "{}",
            "awaiting:bridged",
            "managers may query",
            names="aget_object_or_404 aget_list_or_404",
        ),
    ),
    *of(
        "django.forms.forms",
        add(
            "BaseForm.__init_subclass__",
            "forms.subclasses:form_init_subclass",
            "async def clean(), clean_<field>() and the rest; forms run where the policy says",
        ),
        replace("BaseForm.full_clean", "forms.forms:full_clean", "forms run where the policy says"),
        replace(
            "BaseForm.get_initial_for_field",
            "forms.forms:get_initial_for_field",
            "initial values from coroutine functions",
        ),
        add(
            "BaseForm.{}",
            "forms.forms:{}",
            "await form.{}()",
            names="ais_valid aerrors afull_clean ahas_changed",
        ),
    ),
    *of(
        "django.forms.utils",
        add("RenderableMixin.arender", "forms.forms:arender", "await form.arender()"),
    ),
    *of(
        "django.forms.formsets",
        add(
            "BaseFormSet.__init_subclass__",
            "forms.subclasses:formset_init_subclass",
            "coroutine functions in formsets; formsets run where the policy says",
        ),
        replace(
            "BaseFormSet.full_clean", "forms.forms:full_clean", "formsets run where the policy says"
        ),
        add(
            "BaseFormSet.{}",
            "forms.forms:{}",
            "await formset.{}()",
            names="ais_valid aerrors afull_clean ahas_changed",
        ),
        add("aall_valid", "forms.formsets:aall_valid", "forms.aall_valid()", early=True),
    ),
    *of(
        "django.forms",
        add("aall_valid", "forms.formsets:aall_valid", "forms.aall_valid()"),
        early=True,
    ),
    *of(
        "django.forms.models",
        replace(
            "{}.save",
            "forms.subclasses:entry",
            "forms are saved where the policy says",
            names="BaseModelForm BaseModelFormSet",
        ),
        add("BaseModelForm.{}", "forms.models:{}", "await form.{}()", names="asave asave_m2m"),
        add(
            "BaseModelFormSet.{}",
            "forms.models:{}",
            "await formset.{}()",
            names="asave asave_m2m asave_new asave_existing adelete_existing",
        ),
        replace(
            "model_to_dict", "forms.models:model_to_dict", "a coroutine makes a form of an instance"
        ),
    ),
    *of(
        "django.forms.fields",
        add(
            "Field.__init_subclass__",
            "forms.subclasses:field_init_subclass",
            "async def clean(), validate() and the rest of form fields",
        ),
        rebind(
            "normalize_choices",
            "forms.subclasses:normalize_choices",
            "choices from coroutine functions",
        ),
        replace(
            "Field.run_validators",
            "forms.validation:run_validators",
            "validators are awaited, and run where the policy says",
        ),
    ),
    *of(
        "django.forms.boundfield",
        add(
            "BoundField.__init_subclass__",
            "forms.subclasses:bound_field_init_subclass",
            "coroutine functions in bound fields",
        ),
    ),
    *of(
        "django.forms.widgets",
        add(
            "Widget.__init_subclass__",
            "forms.subclasses:widget_init_subclass",
            "coroutine functions in widgets",
        ),
    ),
    *of(
        "django.db.models.fields",
        replace(
            "Field.run_validators",
            "forms.validation:run_validators",
            "validators are awaited, and run where the policy says",
        ),
    ),
    *of(
        "django.db.models.base",
        add(
            "Model.__init_subclass__",
            "forms.validation:model_init_subclass",
            "async def clean() of models",
        ),
        add(
            "Model.{}",
            "forms.validation:{}",
            "await instance.{}()",
            names="afull_clean aclean_fields aclean avalidate_unique avalidate_constraints",
        ),
    ),
)
