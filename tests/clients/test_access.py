"""Who sees what, at the one place that decides it."""

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError

from clients import access
from clients.access import Role, may, set_role, visible
from clients.models import Client, Limit, Membership
from clients.onboarding import create_client
from pricing.models import Model, Provider

pytestmark = pytest.mark.django_db


def person(name: str, role: Role, **granted: bool) -> User:
    user = User.objects.create_user(name)
    set_role(user, role, **granted)
    return User.objects.get(pk=user.pk)


@pytest.fixture
def ana() -> User:
    return person("ana", Role.OPERATOR)


@pytest.fixture
def ben() -> User:
    return person("ben", Role.OPERATOR)


@pytest.fixture
def clients(ana: User, ben: User) -> dict[str, Client]:
    owners = {"hers": ana, "his": ben, "nobodys": None}
    return {name: create_client(name, ["requests=1/day"], owner=owner) for name, owner in owners.items()}


def names(user: User) -> set[str]:
    return {client.name for client in visible(user, Client.objects.all())}


def test_operators_see_their_own_clients(ana: User, ben: User, clients: dict[str, Client]) -> None:
    assert names(ana) == {"hers"}
    assert names(ben) == {"his"}
    assert {limit.client.name for limit in visible(ana, Limit.objects.all())} == {"hers"}


@pytest.mark.parametrize("role", [Role.OWNER, Role.FINANCE, Role.VIEWER])
def test_all_other_roles_see_all_clients(role: Role, clients: dict[str, Client]) -> None:
    assert names(person("x", role)) == set(clients)


def test_an_operator_may_be_granted_all_clients(ben: User, clients: dict[str, Client]) -> None:
    set_role(ben, Role.OPERATOR, all_clients=True)
    assert names(ben) == set(clients)
    assert may(ben, "change", clients["hers"])


@pytest.mark.parametrize("role", [Role.FINANCE, Role.VIEWER])
def test_readers_change_nothing(role: Role, clients: dict[str, Client]) -> None:
    reader = person("x", role)
    for act in ("add", "change", "delete"):
        assert not may(reader, act, Client)
        assert not may(reader, act, clients["hers"])
        assert not reader.has_perm(f"clients.{act}_client")
    assert not visible(reader, Client.objects.all(), "change")
    assert may(reader, "view", clients["hers"])


def test_strangers_and_people_put_out_see_nothing(ana: User, clients: dict[str, Client]) -> None:
    staff = User.objects.create_user("staff", is_staff=True)
    User.objects.filter(pk=ana.pk).update(is_active=False)
    for user in (AnonymousUser(), staff, User.objects.get(pk=ana.pk)):
        assert not visible(user, Client.objects.all())
        assert not may(user, "view", clients["hers"])
        assert not user.has_perm("clients.view_client")


def test_what_the_agency_shares_is_read_and_not_changed(ana: User, ben: User) -> None:
    shared, hers, his = (
        Provider.objects.create(name=name, base_url="https://api.example.com/v1", owner=owner)
        for name, owner in (("shared", None), ("hers", ana), ("his", ben))
    )
    assert set(visible(ana, Provider.objects.all())) == {shared, hers}
    assert set(visible(ana, Provider.objects.all(), "change")) == {hers}
    assert may(ana, "view", shared)
    assert not may(ana, "change", shared)
    assert may(ana, "delete", hers)
    assert not may(ana, "view", his)
    models = {provider: Model.objects.create(name=provider.name, provider=provider) for provider in (shared, hers, his)}
    assert set(visible(ana, Model.objects.all())) == {models[shared], models[hers]}


def test_all_clients_is_not_all_providers(ana: User, ben: User) -> None:
    Provider.objects.create(name="his", base_url="https://api.example.com/v1", owner=ben)
    set_role(ana, Role.OPERATOR, all_clients=True)
    assert not visible(ana, Provider.objects.all())


@pytest.mark.parametrize("model", [Group, Session])
def test_a_model_that_the_table_does_not_know_is_an_error(ana: User, model: type) -> None:
    with pytest.raises(access.UnknownModel, match=model.__name__):
        visible(ana, model.objects.all())
    with pytest.raises(access.UnknownModel):
        may(ana, "view", model)
    assert not ana.has_perm("auth.view_group")


def test_superusers_are_owners_without_further_ado(admin_user: User, clients: dict[str, Client]) -> None:
    assert not Membership.objects.filter(user=admin_user).exists()
    assert access.role_of(admin_user) is Role.OWNER
    assert names(admin_user) == set(clients)


def test_a_role_and_what_django_knows_stay_in_step(admin_user: User, ana: User) -> None:
    set_role(ana, Role.OWNER)
    ana.refresh_from_db()
    assert (ana.is_superuser, ana.is_staff, ana.membership.role) == (True, True, "owner")
    set_role(ana, Role.VIEWER, all_clients=True)
    ana = User.objects.get(pk=ana.pk)
    assert (ana.is_superuser, ana.membership.role, ana.membership.all_clients) == (False, "viewer", False)


def test_an_owner_by_name_only_is_none(ana: User) -> None:
    Membership.objects.filter(user=ana).update(role=Role.OWNER)
    assert access.role_of(User.objects.get(pk=ana.pk)) is None


def test_the_last_owner_stays(admin_user: User, ana: User) -> None:
    with pytest.raises(ValidationError, match="only owner"):
        set_role(admin_user, Role.FINANCE)
    admin_user.refresh_from_db()
    assert admin_user.is_superuser
    set_role(ana, Role.OWNER)
    set_role(admin_user, Role.FINANCE)
    assert access.role_of(User.objects.get(pk=admin_user.pk)) is Role.FINANCE


def test_what_an_operator_makes_is_his(ana: User, ben: User, admin_user: User) -> None:
    client = Client(name="new", owner=ben)
    access.claim(ana, client)
    assert client.owner == ana
    access.claim(admin_user, other := Client(name="other", owner=ben))
    assert other.owner == ben
