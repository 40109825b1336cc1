"""Admin pages of the people who work here: who they are, and what they may do."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from clients import access, invitation_page, invitations
from clients.access import Role
from clients.sessions import end_sessions
from pricing.fresh_sign_in import ask_to_sign_in_again, signed_in_lately

admin.site.unregister(User)  # Django's page, with permissions one by one


class RoleFields(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """The role of a person, and how far it reaches."""

    role = forms.ChoiceField(
        choices=Role.choices,
        initial=Role.OPERATOR,
        widget=UnfoldAdminSelectWidget,
        help_text="Owners may do all; operators work with clients, their keys and usage; finance reads all but keys; "
        "viewers read clients and usage.",
    )
    all_clients = forms.BooleanField(
        label="All clients",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="An operator works with the clients of every operator, not only with his own.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            membership = getattr(self.instance, "membership", None)
            self.initial["role"] = access.role_of(self.instance) or (membership.role if membership else "")
            self.initial["all_clients"] = bool(membership and membership.all_clients)

    def clean(self) -> dict[str, Any]:
        """Keep an owner who can sign in."""
        data = super().clean() or self.cleaned_data
        active = data.get("is_active", True)
        if self.instance.pk and (data.get("role") != Role.OWNER or not active):
            with transaction.atomic():
                access.keep_an_owner(self.instance)
        return data


class PersonForm(RoleFields):
    """A person who is here already."""

    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email", "is_active")

    def clean_email(self) -> str:
        """Return the address; an old one that two people share may stay until it is changed."""
        email: str = self.cleaned_data["email"]
        if email and "email" in self.changed_data:
            _check_free(email, self.instance)
        return email


class NewPersonForm(RoleFields):
    """A person who is invited."""

    username = forms.CharField(
        label="User name",
        max_length=150,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="To sign in with. Empty: the e-mail address.",
    )

    class Meta:
        model = User
        fields = ("first_name", "last_name", "email", "username")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True

    def clean_email(self) -> str:
        """Return the address; two people with one could not both sign in by it."""
        email: str = self.cleaned_data["email"]
        _check_free(email, self.instance)
        return email

    def clean(self) -> dict[str, Any]:
        """Let people without a user name sign in by their address."""
        data = super().clean()
        data["username"] = data.get("username") or data.get("email", "")
        if User.objects.filter(username__iexact=data["username"]).exists():
            self.add_error("username", "Somebody else has this user name.")
        return data


def _check_free(email: str, person: User) -> None:
    """Raise ValidationError where somebody else signs in by that address."""
    others = User.objects.filter(Q(email__iexact=email) | Q(username__iexact=email)).exclude(pk=person.pk)
    if other := others.first():
        left = "" if other.is_active else ", who is inactive"
        raise ValidationError(
            f"This address is {other}'s already{left}. Two people with one could not both sign in by it."
        )


class _Added(HttpResponseRedirect):
    """The answer after a person was added, who is invited once that stands."""

    person: User


@admin.register(User)
class TeamAdmin(UserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]  # unfold ships no types
    """The team. Nobody is deleted, because the audit log names them: people who leave are made inactive."""

    form = PersonForm
    add_form = NewPersonForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "name", "email", "role_shown", "clients_shown", "standing", "last_login")
    list_filter = ("is_active",)
    list_select_related = ("membership",)
    search_fields = ("username", "first_name", "last_name", "email")
    ordering = ("username",)
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    actions = ("invite_again",)
    fieldsets = (
        (None, {"fields": ("username", "first_name", "last_name", "email")}),
        ("Rights", {"fields": ("role", "all_clients", "is_active")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"fields": ("first_name", "last_name", "email", "username")}),
        ("Rights", {"fields": ("role", "all_clients")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Fetch the roles of the whole page at once."""
        people: QuerySet[User] = super().get_queryset(request)
        return invitations.with_invitations(people.select_related("membership"))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Give and take rights after a fresh sign-in only."""
        if self.has_view_permission(request) and not signed_in_lately(request):
            return ask_to_sign_in_again(request)
        answer: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        return answer

    def get_urls(self) -> list[URLPattern]:
        """Add the page of an invitation, and what ends sessions."""
        invitation = self.admin_site.admin_view(self.invitation_view)
        sessions = self.admin_site.admin_view(self.end_sessions_view)
        return [
            path("<int:person_id>/invitation/", invitation, name="auth_user_invitation"),
            path("<int:person_id>/end-sessions/", sessions, name="auth_user_end_sessions"),
            *super().get_urls(),
        ]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Add a person, then invite him: outside the transaction, as mail servers are slow."""
        answer: HttpResponse = super().add_view(request, form_url, extra_context)
        return invitation_page.send(request, answer.person) if isinstance(answer, _Added) else answer

    def response_add(self, request: HttpRequest, obj: User, post_url_continue: str | None = None) -> HttpResponse:
        """Lead to the invitation instead of to the person's page."""
        answer = _Added("..")
        answer.person = obj
        return answer

    def invitation_view(self, request: HttpRequest, person_id: int) -> HttpResponse:
        """Show the link of an invitation, or send it again."""
        person = get_object_or_404(self.get_queryset(request), pk=person_id)
        if not self.has_change_permission(request, person):
            raise PermissionDenied
        if not signed_in_lately(request):
            return ask_to_sign_in_again(request)
        return invitation_page.page(request, self, person)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Set somebody's password after a fresh sign-in only."""
        if self.has_view_permission(request) and not signed_in_lately(request):
            return ask_to_sign_in_again(request)
        answer: HttpResponse = super().user_change_password(request, id, form_url)
        return answer

    @method_decorator(require_POST)
    def end_sessions_view(self, request: HttpRequest, person_id: int) -> HttpResponse:
        """Sign a person out everywhere."""
        person = get_object_or_404(self.get_queryset(request), pk=person_id)
        if not self.has_change_permission(request, person):
            raise PermissionDenied
        count = end_sessions(person)
        messages.success(request, f"{person} was signed in at {count} place{'s'[: count != 1]}, and is no longer.")
        return HttpResponseRedirect(reverse("admin:auth_user_change", args=[person.pk]))

    @admin.action(description="Send the invitation again")
    def invite_again(self, request: HttpRequest, people: QuerySet[User]) -> HttpResponse | None:
        """Mail new links to those who have not come in."""
        if not signed_in_lately(request):
            return ask_to_sign_in_again(request)
        invitation_page.send_again(request, people)
        return None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Offer the invitation of those who have not come in."""
        person = self.get_object(request, unquote(object_id))
        invited = person is not None and invitations.is_invited(person)
        answer: HttpResponse = super().change_view(
            request, object_id, form_url, {**(extra_context or {}), "invited": invited}
        )
        return answer

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """People stay on record."""
        return False

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Save the person with the role; a new one without a password, which nobody but he sets."""
        if not change:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)
        if "role" in form.cleaned_data:
            access.set_role(obj, Role(form.cleaned_data["role"]), all_clients=form.cleaned_data["all_clients"])

    @display(  # type: ignore[untyped-decorator]  # unfold ships no types
        description="state",
        label={"active": "success", "invited": "info", "invitation expired": "warning", "inactive": "danger"},
    )
    def standing(self, user: User) -> str:
        """Return whether the person works here, is asked in, or has left."""
        if invitations.is_invited(user):
            return "invitation expired" if invitations.has_expired(vars(user)["invited_at"]) else "invited"
        return "active" if user.is_active else "inactive"

    @admin.display(description="name")
    def name(self, user: User) -> str:
        """Return the full name."""
        return user.get_full_name() or "–"

    @admin.display(description="role")
    def role_shown(self, user: User) -> str:
        """Return what the person may do here."""
        role = access.role_of(user)
        return role.label if role else "none"

    @admin.display(description="clients")
    def clients_shown(self, user: User) -> str:
        """Return which clients the person works with or reads."""
        role = access.role_of(user)
        if role is None:
            return "–"
        return "own" if role is Role.OPERATOR and not user.membership.all_clients else "all"
