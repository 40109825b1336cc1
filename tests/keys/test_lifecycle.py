"""Keys issued, regenerated, revoked and found again; and what the database refuses."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from clients.models import AuditEntry, Client
from clients.onboarding import create_client
from keys.lifecycle import find, issue, parse_duration, regenerate, revoke
from keys.models import APIKey, KeyUse
from keys.tokens import digest, generate, hint, well_formed
from pricing.models import ConfigVersion

HOUR = timedelta(hours=1)


@pytest.fixture
def acme(db: None) -> Client:
    return create_client("Acme")


def test_only_a_digest_and_a_hint_are_stored(acme: Client) -> None:
    key, plain = issue(acme, "n8n", 30 * 24 * HOUR)
    key.refresh_from_db()
    assert well_formed(plain)
    assert bytes(key.digest) == digest(plain)
    assert key.hint == hint(plain)
    assert key.expires_at == key.created_at + timedelta(days=30)
    assert key.state(timezone.now()) == "active"
    assert plain not in str(APIKey.objects.values())


@pytest.mark.parametrize("expires_in", [timedelta(), -HOUR, timedelta(days=36_501), timedelta.max])
def test_a_key_lasts_a_sensible_time(acme: Client, expires_in: timedelta) -> None:
    with pytest.raises(ValidationError):
        issue(acme, expires_in=expires_in)


@pytest.mark.parametrize("name", ["x" * 201, "a\nb", "a\x00b"])
def test_a_name_is_one_bounded_line(acme: Client, name: str) -> None:
    with pytest.raises(ValidationError):
        issue(acme, name)


def test_an_archived_client_gets_no_key(acme: Client) -> None:
    acme.archive()
    with pytest.raises(ValidationError, match="archived"):
        issue(acme)


def test_without_grace_the_old_key_ends_at_once(acme: Client) -> None:
    old, _ = issue(acme, "n8n")
    new, plain = regenerate(old)
    assert old.state(timezone.now()) == "revoked"
    assert (old.replaced_by, old.revoked_reason) == (new, "replaced")
    assert (new.client, new.name) == (acme, "n8n")
    assert find(plain) == new


def test_with_grace_the_old_key_works_until_its_end(acme: Client) -> None:
    with time_machine.travel("2026-11-23T12:00:00Z", tick=False):
        old, _ = issue(acme)
        new, _ = regenerate(old, 24 * HOUR)
        end = timezone.now() + 24 * HOUR
    assert old.expires_at == end
    assert old.state(end - timedelta(seconds=1)) == "replaced"
    assert old.state(end) == "expired"
    assert new.expires_at is None


def test_grace_never_makes_a_key_last_longer_and_the_new_one_lasts_as_long_anew(acme: Client) -> None:
    with time_machine.travel("2026-11-23T12:00:00Z", tick=False) as clock:
        old, _ = issue(acme, expires_in=30 * HOUR)
        first_end = old.expires_at
        clock.shift(20 * HOUR)
        new, _ = regenerate(old, 24 * HOUR)
        assert old.expires_at == first_end
        assert new.expires_at == timezone.now() + 30 * HOUR


def test_an_expired_key_stays_expired_when_regenerated(acme: Client) -> None:
    with time_machine.travel("2026-11-23T12:00:00Z", tick=False) as clock:
        old, _ = issue(acme, expires_in=HOUR)
        end = old.expires_at
        clock.shift(2 * HOUR)
        new, _ = regenerate(old, HOUR)
        assert (old.expires_at, old.state(timezone.now())) == (end, "expired")
        assert new.state(timezone.now()) == "active"


def test_a_clock_set_back_hinders_neither_regenerating_nor_revoking(acme: Client) -> None:
    with time_machine.travel("2026-11-23T12:00:00Z", tick=False) as clock:
        first, _ = issue(acme)
        second, _ = issue(acme)
        clock.shift(-HOUR)
        regenerate(first, timedelta(minutes=5))
        assert first.state(timezone.now()) == "revoked"
        revoke(second)
        assert second.state(timezone.now()) == "revoked"


def test_a_key_is_replaced_once(acme: Client) -> None:
    old, _ = issue(acme)
    stale = APIKey.objects.get(pk=old.pk)
    new, _ = regenerate(old, HOUR)
    with pytest.raises(ValidationError, match=f"already replaced; regenerate its replacement {new.hint}"):
        regenerate(stale, HOUR)
    assert APIKey.objects.count() == 2


@pytest.mark.parametrize("grace", [-HOUR, timedelta(days=36_501)])
def test_a_grace_period_is_a_sensible_time(acme: Client, grace: timedelta) -> None:
    old, _ = issue(acme)
    with pytest.raises(ValidationError):
        regenerate(old, grace)
    assert APIKey.objects.count() == 1


def test_a_revoked_key_stays_revoked_for_its_first_reason(acme: Client) -> None:
    key, _ = issue(acme)
    revoke(key, "leaked")
    first = key.revoked_at
    with pytest.raises(ValidationError, match="already revoked"):
        revoke(key, "again")
    assert (key.revoked_reason, key.revoked_at) == ("leaked", first)
    with pytest.raises(ValidationError, match="revoked; issue a new key"):
        regenerate(key)


def test_a_key_in_its_grace_can_be_revoked_and_its_replacement_lives_on(acme: Client) -> None:
    old, _ = issue(acme)
    new, _ = regenerate(old, HOUR)
    revoke(old, "leaked")
    new.refresh_from_db()
    now = timezone.now()
    assert (old.state(now), new.state(now)) == ("revoked", "active")


def test_an_unfit_reason_revokes_nothing(acme: Client) -> None:
    key, _ = issue(acme)
    with pytest.raises(ValidationError):
        revoke(key, "x" * 201)
    assert APIKey.objects.get().revoked_at is None


def test_a_key_is_found_by_text_hint_and_id(acme: Client) -> None:
    key, plain = issue(acme)
    for text in (plain, f" {plain}\n", key.hint, key.hint.replace("...", "…"), str(key.pk)):
        assert find(text) == key


def test_what_is_not_found_is_said_without_the_key(acme: Client) -> None:
    unknown = generate()
    for text in (unknown, unknown[:-1], hint(unknown), "0", "", "acme", "9" * 40):
        with pytest.raises(ValidationError) as refusal:
            find(text)
        assert unknown[:-1] not in str(refusal.value)


def test_a_hint_of_two_keys_finds_neither(acme: Client) -> None:
    first, _ = issue(acme)
    second, _ = issue(acme)
    APIKey.objects.filter(pk=second.pk).update(hint=first.hint)
    with pytest.raises(ValidationError, match="More than one"):
        find(first.hint)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90m", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(days=14)),
        ("0", timedelta()),
    ],
)
def test_times_are_read(text: str, meant: timedelta) -> None:
    assert parse_duration(text) == meant


@pytest.mark.parametrize("text", ["", "d", "30", "-1d", "1.5h", "30 d", "1y", "99999999w", "9" * 1000 + "d", "٣d"])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_duration(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": b"short"},
        {"digest": b"x" * 33},
        {"hint": ""},
        {"revoked_reason": "without a date"},
        {"expires_at": timezone.now() - timedelta(days=1)},
    ],
)
def test_the_database_itself_holds_the_rules(acme: Client, wrong: dict[str, Any]) -> None:
    key, _ = issue(acme)
    with pytest.raises(IntegrityError), transaction.atomic():
        APIKey.objects.filter(pk=key.pk).update(**wrong)


def test_the_database_keeps_replacements_one_to_one(acme: Client) -> None:
    keys = [issue(acme)[0] for _ in range(3)]
    with pytest.raises(IntegrityError), transaction.atomic():
        APIKey.objects.filter(pk=keys[0].pk).update(replaced_by=keys[0])
    APIKey.objects.filter(pk=keys[0].pk).update(replaced_by=keys[2])
    with pytest.raises(IntegrityError), transaction.atomic():
        APIKey.objects.filter(pk=keys[1].pk).update(replaced_by=keys[2])
    with pytest.raises(IntegrityError), transaction.atomic():
        APIKey.objects.filter(pk=keys[1].pk).update(digest=keys[0].digest)
    with pytest.raises(IntegrityError), transaction.atomic():
        KeyUse.objects.create(key=keys[0], calls=-1)


def test_clients_with_keys_and_keys_with_use_stay(acme: Client) -> None:
    key, _ = issue(acme)
    KeyUse.objects.create(key=key, calls=1)
    for thing in (acme, key):
        with pytest.raises(ProtectedError):
            thing.delete()


def test_changes_of_keys_are_noticed_and_their_use_is_not(acme: Client) -> None:
    def version() -> int:
        return ConfigVersion.objects.get().version

    key, _ = issue(acme)
    seen = version()
    APIKey.objects.update(name="x")
    assert version() > seen
    seen = version()
    KeyUse.objects.create(key=key, calls=1)
    KeyUse.objects.update(calls=2)
    assert version() == seen


# --- limits of its own ---


def limits_of(key: APIKey) -> set[str]:
    return {str(limit) for limit in key.limits.all()}


def test_a_key_has_limits_of_its_own_and_keeps_them_when_it_is_regenerated(acme: Client) -> None:
    key, _ = issue(acme, limits=["requests=100/day", "credits=2.50/month"])
    assert limits_of(key) == {"100 requests a day", "2.50 USD a month"}
    new, _ = regenerate(key, HOUR)
    assert limits_of(new) == limits_of(key)
    assert acme.limits.count() == 0


@pytest.mark.parametrize(
    ("limits", "about"),
    [
        (["requests=many/day"], "whole number"),
        (["requests=1/day", "requests=2/day"], "already a limit"),
        (["sessions=5/day"], "limited for a client"),
    ],
)
def test_without_a_fit_limit_there_is_no_key(acme: Client, limits: list[str], about: str) -> None:
    with pytest.raises(ValidationError, match=about):
        issue(acme, limits=limits)
    assert not APIKey.objects.exists()


def test_a_change_of_a_limit_is_noticed_and_on_record(acme: Client) -> None:
    key, _ = issue(acme, limits=["requests=100/day"])
    version = ConfigVersion.current()
    key.limits.update(amount=50)
    assert ConfigVersion.current() > version
    entry = AuditEntry.objects.filter(object_id=key.limits.get().pk).latest("pk")
    assert entry.changes["amount"] == ["100 requests", "50 requests"]
