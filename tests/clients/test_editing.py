"""Two people at one client: the second is refused and told who was first."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import QuerySet

from clients.editing import claim, last_change
from clients.models import Client, Plan
from clients.onboarding import create_client
from clients.plans import apply_plan, change_plan
from pricing.actors import Actor, Door, acting

pytestmark = pytest.mark.django_db


def test_every_way_to_change_a_client_moves_its_version() -> None:
    acme = create_client("Acme")
    plan = Plan.objects.create(name="Basic")
    seen = acme.version
    for change in (
        acme.save,
        lambda: acme.suspend("unpaid"),
        acme.activate,
        lambda: Client.objects.update(notes="x"),
        lambda: Client.objects.all().suspend(),
        lambda: apply_plan(acme, plan),
        lambda: change_plan(Client.objects.all(), None),
        lambda: acme.save(update_fields=["phone"]),
    ):
        change()
        version = Client.objects.get().version
        assert version > seen
        seen = version
    assert acme.version == seen, "an instance knows the version it saved"


def test_a_copy_that_is_old_never_winds_the_version_back() -> None:
    acme = create_client("Acme")
    old = Client.objects.get()
    for _ in range(3):
        acme.save()
    old.save()
    assert Client.objects.get().version == acme.version + 1 == old.version


def test_a_save_that_fails_leaves_the_instance_as_it_was() -> None:
    create_client("Taken")
    acme = create_client("Acme")
    acme.time_zone = None  # type: ignore[assignment]  # that is the point
    with pytest.raises(Exception, match=r"(?i)null"):
        acme.save()
    assert acme.version == 0


def test_the_second_is_told_who_was_first_and_when() -> None:
    acme = create_client("Acme")
    claim(acme, acme.version)
    seen = acme.version
    ann = User.objects.create_user("ann", first_name="Ann", last_name="Lee")
    with acting(Actor(Door.ADMIN, user=ann)):
        acme.suspend("unpaid")
    with pytest.raises(ValidationError, match=r"Ann Lee changed Acme on .* UTC, after you opened") as refusal:
        claim(acme, seen)
    assert refusal.value.code == "changed"
    claim(acme, acme.version)


def test_who_it_was_is_not_guessed() -> None:
    acme = create_client("Acme")
    later = acme.changed_at + timedelta(hours=1)
    QuerySet(Client).update(changed_at=later)  # past the log, as raw SQL would
    acme.refresh_from_db()
    assert last_change(acme).startswith("Somebody changed Acme")
