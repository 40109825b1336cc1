"""What the back office adds to every admin class: each list, page, choice and action shows what its reader may see.

An admin class may say `needs_permission = {"key_hint": "keys.view_apikey"}`: columns and fields that only those with
the permission see. Fields that lead to rows which the reader's role does not read are left out by themselves.
"""

import copy
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, ClassVar

from django.contrib.admin import RelatedFieldListFilter
from django.contrib.admin.options import BaseModelAdmin, InlineModelAdmin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import FieldDoesNotExist, PermissionDenied
from django.db.models import PROTECT, Field, ForeignObjectRel, Model, QuerySet, TextField
from django.forms import ModelChoiceField
from django.forms.utils import pretty_name
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextareaWidget

from clients import access
from clients.audit import AuditEntry, entries_about
from gateway_project.navigation import title_of

ENTRIES_EACH = 50
"""On a page of an object's history."""


@cache
def scoped(admin_class: type[Any]) -> type[Any]:
    """Return `admin_class` with its reader's scope put in front, under the same name."""
    kind: type[Any] = ScopedInline if issubclass(admin_class, InlineModelAdmin) else ScopedAdmin
    return type(admin_class.__name__, (kind, admin_class), {"__module__": admin_class.__module__})


class _Scoped(BaseModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Rows and choices that the reader may see."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave out what the reader may not see: from lists, pages, history, search, autocomplete and actions."""
        return access.visible(request.user, super().get_queryset(request))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer, and take, only what the reader may see; where it decides whose the row is, what he may change."""
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if field is not None:
            act: access.Act = "change" if db_field.name == access.owner_field(self.model) else "view"
            field.queryset = access.visible(request.user, _all(field), act)
        return field

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer, and take, only what the reader may see."""
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None:
            field.queryset = access.visible(request.user, _all(field))
        return field

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Let only owners say whose a row is."""
        fields = tuple(super().get_readonly_fields(request, obj))
        owner = access.rule_of(self.model).owner
        if owner and "__" not in owner and not access.chooses_owner(request.user):
            fields += (owner,)
        return tuple(name for name in fields if not self._is_kept_from(request, name))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out what the reader may not see of a row."""
        fieldsets = super().get_fieldsets(request, obj)
        return [
            (name, {**options, "fields": self._without_kept(request, options["fields"])}) for name, options in fieldsets
        ]

    def _without_kept(self, request: HttpRequest, names: Sequence[Any]) -> list[Any]:
        kept: list[Any] = []
        for name in names:
            if isinstance(name, list | tuple):
                kept.append(tuple(self._without_kept(request, name)))
            elif not self._is_kept_from(request, name):
                kept.append(name)
        return [name for name in kept if name != ()]

    def _is_kept_from(self, request: HttpRequest, name: Any) -> bool:
        if not isinstance(name, str):
            return False
        permission = getattr(self, "needs_permission", {}).get(name)
        if permission is not None:
            return not request.user.has_perm(permission)
        try:
            related = self.model._meta.get_field(name).related_model
        except FieldDoesNotExist:
            return False
        if related is None or name == access.owner_field(self.model):
            return False
        return not access.may(request.user, "view", related)


class ScopedInline(_Scoped):
    """Rows of a page that belong to its object: changed only by those who may change that."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask what the reader's role sees."""
        return access.may(request.user, "view", self.model) and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask for the role, and for the page's object."""
        return self._may_write(request, "add", obj) and super().has_add_permission(request, obj)  # type: ignore[call-arg]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask for the role, and for the page's object."""
        return self._may_write(request, "change", obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask for the role, and for the page's object."""
        return self._may_write(request, "delete", obj) and super().has_delete_permission(request, obj)

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Scope the choices that the inline's own form declares; name each input, as a table has no labels."""
        formset = super().get_formset(request, obj, **kwargs)  # type: ignore[misc]
        _scope_declared(formset.form, request)
        for name, field in formset.form.base_fields.items():
            field.widget.attrs.setdefault("aria-label", field.label or pretty_name(name).capitalize())
        return formset

    def _may_write(self, request: HttpRequest, act: access.Act, obj: Model | None) -> bool:
        if obj is not None and obj.pk is not None and not access.may(request.user, "change", obj):
            return False
        return access.may(request.user, act, self.model)


class ScopedAdmin(_Scoped):
    """Lists and pages that hold what their reader may see; what he may not is not there: 404."""

    empty_value_display = "–"
    formfield_overrides: ClassVar = {TextField: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 3})}}

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask who sees what."""
        return self._may(request, "view", obj) and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Ask who sees what."""
        return self._may(request, "add") and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask who sees what."""
        return self._may(request, "change", obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask who sees what."""
        return self._may(request, "delete", obj) and super().has_delete_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Ask who sees what."""
        return self._may(request, "view") and super().has_module_permission(request)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the object. Raises Http404 where there is none for this reader."""
        found = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        if found is None:
            raise Http404(f"No {self.opts.verbose_name} with that id.")
        return found

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> None:
        """Leave it to the audit log, which knows more: there is one log. So below."""

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> None:
        """Do nothing."""

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Do nothing."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Call the list what the sidebar calls it."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_changelist"
        title = title_of(name) or str(self.opts.verbose_name_plural).capitalize()
        answer: HttpResponse = super().changelist_view(request, {"title": title, **(extra_context or {})})  # type: ignore[misc]
        return answer

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show what the audit log holds about the object and its parts, as far as the reader may see that."""
        row = self.get_object(request, unquote(object_id))
        if not (self.has_view_permission(request, row) and access.may(request.user, "view", AuditEntry)):
            raise PermissionDenied
        entries = access.visible(request.user, entries_about(row))
        page = self.get_paginator(request, entries, ENTRIES_EACH).get_page(request.GET.get(PAGE_VAR))  # type: ignore[attr-defined]
        context = {
            **self.admin_site.each_context(request),
            "title": f"History of {row}",
            "object": row,
            "original": row,  # of the way back at the top
            "opts": self.opts,
            "page": page,
            "page_var": PAGE_VAR,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/object_history.html", context)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Say what needs the rows, without reading it all as Django would: that may be millions of calls."""
        needed = [f"{row}: {kind} need it" for row in objs if (kind := _needing(row))]
        if needed:
            return [], {}, set(), needed
        return super().get_deleted_objects(objs, request)  # type: ignore[misc]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Lead to the history only those who may see it."""
        context["show_history"] = access.may(request.user, "view", AuditEntry) and self.model is not AuditEntry
        return super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Make what an operator makes his own."""
        if not change:
            access.claim(request.user, obj)
        super().save_model(request, obj, form, change)  # type: ignore[misc]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Scope the choices that the admin's own form declares."""
        form = super().get_form(request, obj, change=change, **kwargs)  # type: ignore[misc]
        _scope_declared(form, request)
        return form

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[type[Any]]:
        """Scope the rows below the form as well."""
        return [scoped(inline) for inline in super().get_inlines(request, obj)]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Leave out columns that the reader may not see."""
        return self._without_kept(request, super().get_list_display(request))  # type: ignore[misc]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """Offer as filters what the reader may see; each choice is scoped as well."""
        offered: list[Any] = []
        for entry in super().get_list_filter(request):  # type: ignore[misc]
            path, kind = entry if isinstance(entry, list | tuple) else (entry, None)
            field = _field_at(self.model, path)
            if field is None or field.related_model is None:
                if not self._is_kept_from(request, path):
                    offered.append(entry)
            elif access.may(request.user, "view", field.related_model):
                offered.append((path, _scoped_filter(kind or RelatedFieldListFilter)))
        return offered

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Filter by what the list offers; any other look-up would be a way to guess at fields that are not shown."""
        name = lookup.partition("__")[0]
        if request is not None and _field_at(self.model, name) is not None:
            filters = [
                entry[0] if isinstance(entry, list | tuple) else entry for entry in self.get_list_filter(request)
            ]
            if any(getattr(path, "parameter_name", None) == lookup for path in filters):
                return True  # a filter that says itself what comes of the value
            if not any(isinstance(path, str) and path.partition("__")[0] == name for path in filters):
                return name == self.date_hierarchy  # type: ignore[attr-defined,no-any-return]
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Let an action that changes or deletes reach only rows that the reader may change or delete.

        An action that does not say what it needs (`permissions=["view"]`) is taken for one that changes.
        """
        actions = super().get_actions(request)  # type: ignore[misc]
        may_change = self.has_change_permission(request)
        return {
            name: (_reaching_only(act, func), name, description)
            for name, (func, _, description) in actions.items()
            if (act := _act_of(func)) != "change" or may_change
        }

    def _may(self, request: HttpRequest, act: access.Act, obj: Model | None = None) -> bool:
        return access.may(request.user, act, self.model if obj is None or obj.pk is None else obj)


def _all(field: Any) -> QuerySet[Any]:
    choices: QuerySet[Any] = field.queryset
    return choices


def _needing(row: Model) -> str:
    """Return what protects the row from being deleted, '' where nothing does; whatever has an index is asked first."""
    relations = [
        relation
        for relation in row._meta.get_fields(include_hidden=True)
        if isinstance(relation, ForeignObjectRel) and relation.on_delete is PROTECT
    ]
    for relation in sorted(relations, key=lambda one: (not getattr(one.field, "db_index", False), not one.hidden)):
        rows = relation.related_model._base_manager.filter(**{relation.field.name: row})
        if rows.exists():
            return str(relation.related_model._meta.verbose_name_plural)
    return ""


def _act_of(action: Callable[..., Any]) -> access.Act:
    needed = getattr(action, "allowed_permissions", ["change"])
    return "delete" if "delete" in needed else "view" if set(needed) == {"view"} else "change"


def _reaching_only(act: access.Act, action: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(action)
    def on_own(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        return action(model_admin, request, access.visible(request.user, queryset, act))

    return on_own


def _scope_declared(form: type[Any], request: HttpRequest) -> None:
    for name, field in form.declared_fields.items():
        if name in form.base_fields:
            own = form.base_fields[name] = copy.deepcopy(field)  # the declared one is shared by all requests
            if isinstance(own, ModelChoiceField):
                own.queryset = access.visible(request.user, _all(own))


def _field_at(model: type[Model], path: Any) -> "Field[Any, Any] | None":
    field = None
    try:
        for name in path.split("__") if isinstance(path, str) else ():
            field = model._meta.get_field(name)
            model = field.related_model or model
    except FieldDoesNotExist:
        return None
    return field  # type: ignore[return-value]


class _ScopedChoices(RelatedFieldListFilter):
    """A filter by a related object, which offers those that the reader may see."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        """Return the choices."""
        ordering = self.field_admin_ordering(field, request, model_admin)
        seen = access.visible(request.user, field.related_model._default_manager.all())
        choices: list[Any] = field.get_choices(
            include_blank=False, ordering=ordering, limit_choices_to={"pk__in": seen.values("pk")}
        )
        return choices


@cache
def _scoped_filter(kind: type[RelatedFieldListFilter]) -> type[RelatedFieldListFilter]:
    return (
        type(f"Scoped{kind.__name__}", (_ScopedChoices, kind), {}) if issubclass(kind, RelatedFieldListFilter) else kind
    )
