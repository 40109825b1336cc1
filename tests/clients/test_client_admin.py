"""Clients in the admin: limits in natural units, status and plan with what comes of them, history kept."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client as Browser
from django.urls import reverse

from clients.access import Role, set_role
from clients.models import Client
from clients.onboarding import create_client
from keys.lifecycle import issue
from pricing.models import Provider
from tests.clients.test_plans import make_plan

pytestmark = pytest.mark.django_db


def form(limits: list[tuple[str, str, str]], **changes: str) -> dict[str, Any]:
    data = {
        "name": "Acme",
        "seen_version": str(Client.objects.values_list("version", flat=True).filter(name="Acme").first() or 0),
        "status": "active",
        "time_zone": "Asia/Kolkata",
        "cycle_start_day": "15",
        "brake_action": "stop",
        "brake_per_minute": "60",
        "markup_bp": "12.5",
        "limits-TOTAL_FORMS": str(len(limits)),
        "limits-INITIAL_FORMS": "0",
        "keys-TOTAL_FORMS": "0",
        "keys-INITIAL_FORMS": "0",
        "own_prices-TOTAL_FORMS": "0",
        "own_prices-INITIAL_FORMS": "0",
    }
    for number, (metric, amount, cycle) in enumerate(limits):
        data |= {
            f"limits-{number}-metric": metric,
            f"limits-{number}-amount": amount,
            f"limits-{number}-cycle": cycle,
        }
    return data | changes


def test_limits_and_profile_are_edited_in_natural_units(admin_client: Browser) -> None:
    client = create_client("Acme")
    sent = form([("credits", "25.50", "month"), ("requests", "100", "day")])
    answer = admin_client.post(reverse("admin:clients_client_change", args=[client.pk]), sent)
    assert answer.status_code == 302, answer.context["errors"]
    client.refresh_from_db()
    assert (client.markup_bp, client.time_zone, client.cycle_start_day) == (1250, "Asia/Kolkata", 15)
    assert (client.brake_per_minute, client.brake_action) == (60, "stop")
    assert {(limit.metric, limit.amount, limit.cycle) for limit in client.limits.all()} == {
        ("credits", 25_500_000_000_000, "month"),
        ("requests", 100, "day"),
    }
    page = admin_client.get(reverse("admin:clients_client_change", args=[client.pk])).content.decode()
    assert 'value="25.50"' in page
    assert "25.50 USD a month" in page
    assert 'value="12.5"' in page
    listed = admin_client.get(reverse("admin:clients_client_changelist")).content.decode()
    assert "100 requests a day" in listed


def test_who_saves_second_is_told_and_keeps_what_was_entered(admin_client: Browser) -> None:
    client = create_client("Acme")
    url = reverse("admin:clients_client_change", args=[client.pk])
    seen = str(client.version)
    assert admin_client.post(url, form([], seen_version=seen, company="First")).status_code == 302
    late = admin_client.post(url, form([], seen_version=seen, company="Second"))
    assert late.status_code == 200
    assert "after you opened this page" in late.content.decode()
    assert "Second" in late.content.decode()
    client.refresh_from_db()
    assert client.company == "First"
    shown = late.context["adminform"].form["seen_version"].value()
    again = admin_client.post(url, form([], seen_version=shown, company="Second"))
    assert again.status_code == 302
    client.refresh_from_db()
    assert client.company == "Second"


def test_a_page_that_does_not_tell_its_version_overwrites_nothing(admin_client: Browser) -> None:
    client = create_client("Acme")
    url = reverse("admin:clients_client_change", args=[client.pk])
    unsaid = {name: value for name, value in form([], company="Forged").items() if name != "seen_version"}
    answer = admin_client.post(url, unsaid)
    assert "after you opened this page" in answer.content.decode()
    client.refresh_from_db()
    assert client.company == ""


def test_nobody_pays_for_another_operators_client() -> None:
    ann, bob = (User.objects.create_user(name) for name in ("ann", "bob"))
    anns = Provider.objects.create(name="Ann's account", owner=ann, base_url="https://api.openai.com/v1")
    client = create_client("Acme", owner=ann)
    client.provider = anns
    client.full_clean()
    client.owner = bob
    with pytest.raises(ValidationError, match="another operator's"):
        client.full_clean()


def test_a_reason_that_does_not_hold_is_said_at_the_reason(admin_client: Browser) -> None:
    client = create_client("Acme")
    url = reverse("admin:clients_client_status", args=[client.pk, "suspended"])
    answer = admin_client.post(url, {"reason": "unpaid\x07"})
    assert "reason" in answer.context["form"].errors
    client.refresh_from_db()
    assert client.status == "active"


@pytest.mark.parametrize("ids", ["", "-1", "9" * 30, "9" * 5_000, str(2**63), "1,x"])
def test_a_plan_for_clients_that_there_are_not_is_no_page(admin_client: Browser, ids: str) -> None:
    assert admin_client.get(reverse("admin:clients_client_plan"), {"ids": ids}).status_code == 404


@pytest.mark.parametrize(
    ("limits", "changes"),
    [
        ([("requests", "1.5", "day")], {}),
        ([("credits", "-1", "day")], {}),
        ([("credits", "1e400", "day")], {}),
        ([("requests", "1", "day"), ("requests", "2", "day")], {}),
        ([], {"markup_bp": "lots"}),
        ([], {"markup_bp": "-100.01"}),
        ([], {"markup_bp": "999999"}),
        ([], {"time_zone": "Mars/Olympus"}),
        ([], {"cycle_start_day": "32"}),
        ([], {"name": " "}),
    ],
)
def test_wrong_input_is_shown_beside_the_form(
    admin_client: Browser, limits: list[tuple[str, str, str]], changes: dict[str, str]
) -> None:
    client = create_client("Acme")
    answer = admin_client.post(reverse("admin:clients_client_change", args=[client.pk]), form(limits, **changes))
    assert answer.status_code == 200
    assert answer.context["errors"]
    assert not client.limits.exists()
    assert list(Client.objects.values_list("name", "time_zone", "markup_bp")) == [("Acme", client.time_zone, 0)]


def test_a_client_with_keys_is_kept(admin_client: Browser) -> None:
    client = create_client("Acme")
    key, _ = issue(client)
    url = reverse("admin:clients_client_delete", args=[client.pk])
    for answer in (admin_client.get(url, follow=True), admin_client.post(url, {"post": "yes"}, follow=True)):
        assert "Archive it instead" in answer.content.decode()
    assert Client.objects.filter(pk=client.pk).exists()
    page = admin_client.get(reverse("admin:clients_client_change", args=[client.pk])).content.decode()
    assert key.hint in page
    assert reverse("admin:keys_apikey_add") + f"?client={client.pk}" in page


def test_a_client_without_history_can_go(admin_client: Browser) -> None:
    client = create_client("Acme", ["requests=1/day"])
    admin_client.post(reverse("admin:clients_client_delete", args=[client.pk]), {"post": "yes"})
    assert not Client.objects.exists()


def test_there_is_no_deletion_in_bulk(admin_client: Browser) -> None:
    create_client("Acme")
    assert "delete_selected" not in admin_client.get(reverse("admin:clients_client_changelist")).content.decode()


# --- status, plan, many at once ---


def text(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return " ".join(answer.content.decode().split())


def test_a_status_is_changed_with_its_reason_and_says_what_happens_before(admin_client: Browser) -> None:
    client = create_client("Acme")
    url = reverse("admin:clients_client_status", args=[client.pk, "suspended"])
    assert "403 client_suspended" in text(admin_client.get(url))
    shown = text(admin_client.post(url, {"reason": "invoice 7 is open"}, follow=True))
    assert "Suspended: invoice 7 is open" in shown
    admin_client.post(reverse("admin:clients_client_status", args=[client.pk, "active"]), {})
    client.refresh_from_db()
    assert (client.status, client.status_reason) == ("active", "")


def test_archived_clients_leave_the_list_and_are_found_when_asked_for(admin_client: Browser) -> None:
    create_client("Acme")
    gone = create_client("Gone")
    gone.archive("left")
    gone.save()
    url = reverse("admin:clients_client_changelist")

    def names(**asked: str) -> set[str]:
        return {client.name for client in admin_client.get(url, asked).context["cl"].queryset}

    assert (names(), names(status="inactive"), names(status="all")) == ({"Acme"}, {"Gone"}, {"Acme", "Gone"})


def test_many_are_suspended_with_a_reason(admin_client: Browser) -> None:
    first, second, untouched, before = (create_client(name) for name in ("First", "Second", "Untouched", "Before"))
    before.suspend("unpaid")
    chosen = [first.pk, second.pk, before.pk]
    url = reverse("admin:clients_client_changelist")
    asked = admin_client.post(url, {"action": "suspend", "_selected_action": chosen}, follow=True)
    assert "Suspend 2 clients" in text(asked)
    assert "First, Second" in text(asked)
    assert "403 client_suspended" in text(asked)
    page = asked.redirect_chain[-1][0]
    refused = admin_client.post(page, {"reason": "x" * 201})
    assert "reason" in refused.context["form"].errors
    assert Client.objects.filter(status="suspended").count() == 1
    done = admin_client.post(page, {"reason": "card refused"}, follow=True)
    assert "2 clients suspended" in text(done)
    told = dict(Client.objects.filter(status="suspended").values_list("name", "status_reason"))
    assert told == {"First": "card refused", "Second": "card refused", "Before": "unpaid"}
    untouched.refresh_from_db()
    assert untouched.status == "active"
    again = admin_client.post(page, {"reason": "twice"}, follow=True)
    assert "nothing to suspend" in text(again)
    first.refresh_from_db()
    assert first.status_reason == "card refused"


def test_many_are_given_a_plan_at_once(admin_client: Browser) -> None:
    plan = make_plan("Basic", "requests=100/day")
    clients = [create_client(f"Client {number}", ["requests=5/day"]) for number in range(3)]
    ids = [client.pk for client in clients[:2]]
    url = reverse("admin:clients_client_changelist")
    asked = admin_client.post(url, {"action": "choose_plan", "_selected_action": ids}, follow=True)
    assert "Basic: 100 requests a day" in text(asked)
    assert "2 clients: plan Basic" in text(
        admin_client.post(asked.redirect_chain[-1][0], {"plan": plan.pk}, follow=True)
    )
    assert [str(client.limits.get()) for client in clients] == ["100 requests a day"] * 2 + ["5 requests a day"]


def test_a_client_that_deviates_from_its_plan_shows_it(admin_client: Browser) -> None:
    client = create_client("Acme", ["requests=5/day"], make_plan("Basic", "requests=100/day"))
    assert "Basic (deviates)" in text(admin_client.get(reverse("admin:clients_client_changelist")))
    page = text(admin_client.get(reverse("admin:clients_client_change", args=[client.pk])))
    assert "Basic (deviates): 5 requests a day instead of 100 requests" in page


def test_chosen_clients_are_exported(admin_client: Browser) -> None:
    chosen = create_client("=cmd()", ["requests=5/day"])
    create_client("Other")
    sent = {"action": "export_csv", "_selected_action": [chosen.pk]}
    answer = admin_client.post(reverse("admin:clients_client_changelist"), sent)
    file = b"".join(answer).decode("utf-8-sig")
    assert file.count("\r\n") == 2
    assert '"\'=cmd()"' in file
    assert "requests=5/day" in file


# --- import ---


def upload(browser: Browser, content: str) -> Any:
    file = SimpleUploadedFile("clients.csv", content.encode(), "text/csv")
    return browser.post(reverse("admin:clients_client_import"), {"file": file})


def test_a_file_is_shown_before_anything_is_made_of_it_and_made_once(admin_client: Browser) -> None:
    make_plan("Basic", "requests=100/day")
    shown = upload(admin_client, "name,plan\nAcme,Basic\nBeta,\n")
    assert "2 clients in clients.csv; none is made yet" in text(shown)
    assert "100 requests a day" in text(shown)
    assert not Client.objects.exists()
    confirmed = {"draft": str(shown.context["draft"].pk)}
    assert "2 clients imported" in text(
        admin_client.post(reverse("admin:clients_client_import"), confirmed, follow=True)
    )
    assert "was made already" in text(admin_client.post(reverse("admin:clients_client_import"), confirmed, follow=True))
    assert Client.objects.count() == 2


def test_what_is_wrong_with_a_file_is_told_by_line_and_nothing_is_made(admin_client: Browser) -> None:
    shown = text(upload(admin_client, "name,plan\nAcme,\nBeta,Gold\n"))
    assert "<td>3</td><td>plan</td><td>There is no plan &#x27;Gold&#x27;" in shown
    assert not Client.objects.exists()


def test_nobody_confirms_anothers_file(admin_client: Browser) -> None:
    shown = upload(admin_client, "name\nAcme\n")
    other = User.objects.create_user("other")
    set_role(other, Role.OPERATOR)
    browser = Browser()
    browser.force_login(User.objects.get(pk=other.pk))
    browser.post(reverse("admin:clients_client_import"), {"draft": str(shown.context["draft"].pk)})
    assert not Client.objects.exists()


# --- plans ---


def test_a_plan_that_changed_is_given_to_its_clients_by_an_action(admin_client: Browser) -> None:
    plan = make_plan("Basic", "requests=100/day")
    follows = create_client("Follows", plan=plan)
    deviates = create_client("Deviates", ["requests=5/day"], plan)
    limit = plan.limits.get()
    sent = {
        "name": "Basic",
        "markup_bp": "10",
        "limits-TOTAL_FORMS": 1,
        "limits-INITIAL_FORMS": 1,
        "limits-0-id": limit.pk,
        "limits-0-plan": plan.pk,
        "limits-0-metric": "requests",
        "limits-0-amount": "200",
        "limits-0-cycle": "day",
    }
    url = reverse("admin:clients_plan_change", args=[plan.pk])
    assert "1 client still has the terms of before" in text(admin_client.post(url, sent, follow=True))
    assert str(follows.limits.get()) == "100 requests a day"
    chosen = {"action": "adopt", "_selected_action": [plan.pk]}
    assert "1 client got" in text(admin_client.post(reverse("admin:clients_plan_changelist"), chosen, follow=True))
    assert (str(follows.limits.get()), str(deviates.limits.get())) == ("200 requests a day", "5 requests a day")


def test_a_plan_can_be_taken_away_and_the_page_says_so(admin_client: Browser) -> None:
    client = create_client("Acme", [], make_plan("Basic", "requests=100/day"))
    url = f"{reverse('admin:clients_client_plan')}?ids={client.pk}"
    assert "None: they keep the limits" in admin_client.get(url).content.decode()
    assert admin_client.post(url, {"plan": ""}).status_code == 302
    client.refresh_from_db()
    assert client.plan is None
    assert client.limits.count() == 1


def test_an_empty_row_of_limits_is_sent_empty(admin_client: Browser) -> None:
    create_client("Acme", ["requests=100/day"])
    page = admin_client.get(reverse("admin:clients_client_change", args=[Client.objects.get().pk]))
    row = page.context["inline_admin_formsets"][0].formset.forms[-1]
    assert [str(row[name]).count("selected") for name in ("metric", "cycle")] == [1, 1]
    assert '<option value="" selected>' in str(row["metric"])
    assert '<option value="" selected>' in str(row["cycle"])
