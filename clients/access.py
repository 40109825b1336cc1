"""Who sees what, decided here for every door: admin, REST, exports, search, history and bulk actions.

Deny first: a model that is not in the table below is seen by nobody, and asking for it is an error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import models, transaction
from django.db.models import Q, QuerySet

from clients.access_tokens import SCOPES, AccessToken
from clients.models import Client, Membership, check_time_zone, default_time_zone, time_zones
from pricing import audit
from pricing.models import Provider

Role = Membership.Role
Act = Literal["view", "add", "change", "delete"]
Person = User | AnonymousUser
M = TypeVar("M", bound=models.Model)

ALL: Final = frozenset(Role)
OPERATORS: Final = frozenset({Role.OWNER, Role.OPERATOR})
OWNERS: Final = frozenset({Role.OWNER})
BOOKKEEPERS: Final = frozenset({Role.OWNER, Role.FINANCE})


class UnknownModel(LookupError):
    """A model that the table does not know: say there who sees it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which roles read and write a model, and how a row of it leads to the operator whose it is."""

    reads: frozenset[Role]
    writes: frozenset[Role] = OWNERS
    owner: str = ""
    """Look-up of the owning operator, such as client__owner; '' where rows belong to nobody in particular."""
    shared: bool = False
    """Rows without an owner are the agency's: operators see them, and leave them as they are."""
    granted: bool = True
    """Operators with `all_clients` work on the rows of every operator."""
    narrow: Callable[[User, QuerySet[Any]], QuerySet[Any]] | None = None
    """What leaves an operator those of the rows that he sees, where no look-up does."""


def _entries(user: User, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Leave the entries on clients, and on anything else, that the operator sees now, and those on himself."""
    kinds = ContentType.objects
    seen = Q(client_id__in=visible(user, Client.objects.all()).values("pk"))
    seen |= Q(content_type=kinds.get_for_model(User), object_id=user.pk)
    for model in audit.tracked():
        rule = RULES.get(model._meta.label_lower)
        if rule is None or Role.OPERATOR not in rule.reads or "client" in rule.owner or model is Client:
            continue
        of_kind = Q(content_type=kinds.get_for_model(model))
        if rule.owner:
            of_kind &= Q(object_id__in=visible(user, model._base_manager.all()).values("pk"))
        seen |= of_kind
    return rows.filter(seen)


def _alerts(user: User, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Leave the alerts about clients, and about providers where they are about no client, that the operator sees."""
    clients, providers = visible(user, Client.objects.all()), visible(user, Provider.objects.all())
    return rows.filter(Q(client__in=clients.values("pk")) | Q(client=None, provider__in=providers.values("pk")))


RULES: Final[dict[str, Rule]] = {
    "clients.client": Rule(ALL, OPERATORS, "owner"),
    "clients.limit": Rule(ALL, OPERATORS, "client__owner"),
    "clients.ownprice": Rule(ALL, OPERATORS, "client__owner"),
    "clients.plan": Rule(ALL),
    "clients.planlimit": Rule(ALL),
    "clients.accesstoken": Rule(OWNERS),
    "clients.agency": Rule(ALL),
    "clients.idempotencykey": Rule(frozenset(), frozenset()),
    "clients.importdraft": Rule(frozenset(), frozenset()),
    "clients.logo": Rule(ALL, frozenset()),
    "clients.membership": Rule(OWNERS),
    "clients.auditentry": Rule(OPERATORS, frozenset(), narrow=_entries),
    "auth.user": Rule(OWNERS),
    "contenttypes.contenttype": Rule(ALL, frozenset()),
    "keys.apikey": Rule(OPERATORS, OPERATORS, "client__owner"),
    "keys.allowedmodel": Rule(OPERATORS, OPERATORS, "key__client__owner"),
    "keys.keylimit": Rule(OPERATORS, OPERATORS, "key__client__owner"),
    "keys.handover": Rule(OPERATORS, OPERATORS, "key__client__owner"),
    "keys.keyuse": Rule(OPERATORS, OPERATORS, "key__client__owner"),
    "usage.alert": Rule(ALL, frozenset(), narrow=_alerts),
    "usage.archivefile": Rule(OWNERS, frozenset()),
    "usage.archiveduse": Rule(frozenset(), frozenset()),
    "usage.alertrules": Rule(OPERATORS),
    "usage.receiver": Rule(OPERATORS, OPERATORS, "owner", granted=False),
    "usage.clientlink": Rule(OPERATORS, OPERATORS, "client__owner"),
    "usage.exportschedule": Rule(BOOKKEEPERS, BOOKKEEPERS),
    "usage.rerating": Rule(BOOKKEEPERS, OWNERS),
    "usage.reratestep": Rule(BOOKKEEPERS, OWNERS),
    "usage.reratesum": Rule(frozenset(), frozenset()),
    "usage.terms": Rule(ALL, BOOKKEEPERS, "client__owner"),
    "usage.statement": Rule(ALL, frozenset(), "client__owner"),
    "usage.reconciliation": Rule(BOOKKEEPERS, frozenset()),  # a page, of which nothing is kept
    "usage.agencyday": Rule(frozenset(), frozenset()),
    "usage.usualpace": Rule(frozenset(), frozenset()),
    "usage.usagerecord": Rule(ALL, frozenset(), "client__owner"),
    "usage.usageseries": Rule(ALL, frozenset(), "client__owner"),
    "usage.tagrollup": Rule(ALL, frozenset(), "client__owner"),
    "pricing.provider": Rule(OPERATORS | {Role.FINANCE}, OPERATORS, "owner", shared=True, granted=False),
    "pricing.model": Rule(ALL, OPERATORS, "provider__owner", shared=True, granted=False),
    "pricing.price": Rule(ALL, OPERATORS, "model__provider__owner", shared=True, granted=False),
}

HIDDEN: Final = frozenset(
    {"auth.group", "account.emailaddress", "account.emailconfirmation", "mfa.authenticator", "usersessions.usersession"}
)
"""Models of other packages that have admin pages of their own; the back office leaves those out."""


def rule_of(model: type[models.Model]) -> Rule:
    """Return the rule of `model`. Raises UnknownModel."""
    try:
        return RULES[model._meta.label_lower]
    except KeyError:
        raise UnknownModel(f"clients.access.RULES does not say who sees {model._meta.label}.") from None


def role_of(user: Person) -> Role | None:
    """Return what `user` is here: every superuser an owner; None for strangers, and for people put out."""
    if not user.is_active:
        return None
    if user.is_superuser:
        return Role.OWNER
    membership: Membership | None = getattr(user, "membership", None)
    if membership is None or membership.role == Role.OWNER:  # an owner who is no superuser: out of step, so nothing
        return None
    return Role(membership.role)


def visible(user: Person, queryset: QuerySet[M], act: Act = "view") -> QuerySet[M]:
    """Return the rows of `queryset` that `user` may see, or change, or delete.

    Raises UnknownModel.
    """
    rule, role = rule_of(queryset.model), role_of(user)
    if role is None or role not in (rule.reads if act == "view" else rule.reads & rule.writes):
        return queryset.none()
    if rule.narrow and role == Role.OPERATOR:
        return rule.narrow(user, queryset)  # type: ignore[arg-type]  # nobody anonymous has a role
    if not _only_own(user, role, rule):
        return queryset
    own = Q(**{rule.owner: user})
    return queryset.filter(own | Q(**{f"{rule.owner}__isnull": True}) if rule.shared and act == "view" else own)


def may(user: Person, act: Act, what: type[models.Model] | models.Model) -> bool:
    """Tell whether `user` may do `act` to that row, or to some row of that model. Raises UnknownModel."""
    model = what if isinstance(what, type) else type(what)
    rule, role = rule_of(model), role_of(user)
    if role is None or role not in (rule.reads if act == "view" else rule.reads & rule.writes):
        return False
    if isinstance(what, type) or act == "add":
        return True
    if rule.narrow and role == Role.OPERATOR:
        return visible(user, model._base_manager.filter(pk=what.pk), act).exists()
    if not _only_own(user, role, rule):
        return True
    owner = _owner_id(what, rule.owner)
    return owner == user.pk or (owner is None and rule.shared and act == "view")


def claim(user: Person, row: models.Model) -> None:
    """Make a new row the property of the operator who makes it; owners say themselves whose it is."""
    rule = rule_of(type(row))
    if rule.owner and "__" not in rule.owner and not chooses_owner(user):
        setattr(row, rule.owner, user)


def chooses_owner(user: Person) -> bool:
    """Tell whether `user` may say whose a client or a provider is."""
    return role_of(user) is Role.OWNER


def owner_field(model: type[models.Model]) -> str:
    """Return the field of `model` that leads to whose a row is, '' where none does. Raises UnknownModel."""
    return rule_of(model).owner.partition("__")[0]


@transaction.atomic
def set_role(user: User, role: Role, *, all_clients: bool = False) -> Membership:
    """Give `user` a role, in step with what Django knows of him, and return the membership.

    Raises ValidationError where the last owner would be none any more.
    """
    if role != Role.OWNER:
        keep_an_owner(user)
    user.is_staff, user.is_superuser = True, role == Role.OWNER
    user.save(update_fields=["is_staff", "is_superuser"])
    granted = all_clients and role == Role.OPERATOR
    membership, _ = Membership.objects.update_or_create(user=user, defaults={"role": role, "all_clients": granted})
    user.membership = membership
    return membership


def keep_an_owner(user: User) -> None:
    """Raise ValidationError where nobody but `user` is an owner who can sign in; inside a transaction it stays true."""
    others = User.objects.select_for_update().filter(is_superuser=True, is_active=True).exclude(pk=user.pk)
    was_owner = User.objects.filter(pk=user.pk, is_superuser=True, is_active=True).exists()
    if was_owner and not others:
        raise ValidationError(f"{user} is the only owner: make somebody else an owner first.")


def chosen_time_zone(user: Person) -> str:
    """Return the zone that `user` has chosen to see times in, '' where none."""
    membership: Membership | None = getattr(user, "membership", None)
    return membership.time_zone if membership else ""


def time_zone_of(user: Person, browsers: str = "") -> str:
    """Return the zone that times are shown in to `user`: the chosen one, the browser's, or the installation's."""
    return chosen_time_zone(user) or (browsers if browsers in time_zones() else default_time_zone())


def set_time_zone(user: User, name: str) -> None:
    """Show times in that zone to `user`; '' is the installation's. Raises ValidationError where there is none such."""
    if name:
        check_time_zone(name)
    made = {"role": role_of(user) or Role.VIEWER}
    membership, _ = Membership.objects.get_or_create(user=user, defaults=made)
    membership.time_zone = name
    membership.save(update_fields=["time_zone"])
    user.membership = membership


class RoleBackend(BaseBackend):
    """Django's permissions (`keys.add_apikey`) as roles give them. It signs nobody in."""

    def has_perm(self, user_obj: Person, perm: str, obj: Any = None) -> bool:
        """Tell whether the role of `user_obj` holds that permission, for that row where one is given."""
        app, _, name = perm.partition(".")
        act, _, model = name.partition("_")
        rule = RULES.get(f"{app}.{model}")
        if rule is None or act not in {"view", "add", "change", "delete"}:
            return False
        if obj is not None:
            return obj._meta.label_lower == f"{app}.{model}" and may(user_obj, act, obj)  # type: ignore[arg-type]
        return role_of(user_obj) in (rule.reads if act == "view" else rule.reads & rule.writes)

    def has_module_perms(self, user_obj: Person, app_label: str) -> bool:
        """Tell whether `user_obj` reads anything of that app."""
        role = role_of(user_obj)
        return any(role in rule.reads for label, rule in RULES.items() if label.startswith(f"{app_label}."))


def tokens(user: Person) -> QuerySet[AccessToken]:
    """Return the tokens of that person's automation; to owners everybody's, so that they can end one."""
    if role_of(user) is None:
        return AccessToken.objects.none()
    return AccessToken.objects.all() if role_of(user) == Role.OWNER else AccessToken.objects.filter(user=user.pk)


def scopes_of(user: Person) -> tuple[str, ...]:
    """Return the scopes that a token of that person can make use of."""
    role = role_of(user)
    if role is None:
        return ()
    return tuple(scope for scope in SCOPES if role in _USE.get(scope, OPERATORS))


def _only_own(user: Person, role: Role, rule: Rule) -> bool:
    if role != Role.OPERATOR or not rule.owner:
        return False
    return not (rule.granted and user.membership.all_clients)  # type: ignore[union-attr]  # an operator has one


def _owner_id(row: models.Model, look_up: str) -> Any:
    *steps, last = look_up.split("__")
    try:
        for step in steps:
            row = getattr(row, step)
    except ObjectDoesNotExist:  # usage is kept when its client is gone
        return NOBODY
    return getattr(row, f"{last}_id")


NOBODY: Final = object()
_USE: Final = {"clients:read": ALL, "usage:read": ALL, "prices:read": ALL, "statements:write": BOOKKEEPERS}
"""Who makes use of a scope; of those not named here, operators."""
