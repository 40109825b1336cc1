"""The frame of the back office in a real browser: its policy is kept, and people with weak eyes can use it."""

from datetime import UTC, date, datetime

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from clients.access import Role, set_role
from clients.audit import entries_about
from clients.invitations import invite
from clients.models import Client
from clients.onboarding import create_client
from keys import handover
from keys.lifecycle import issue
from pricing.models import Model, Provider
from pricing.money import PICO
from pricing.price_list import Step, new_price
from tests.browser.axe import assert_usable, findings
from tests.browser.operator import Operator, sign_in
from tests.clients.test_plans import make_plan
from usage import client_links
from usage.alerts.models import Kind
from usage.alerts.outbox import deliver_due
from usage.alerts.watch import Found, raise_all
from usage.closing import close, drafts
from usage.models import AlertRules, ExportSchedule, Receiver, RerateStep, RerateSum, Rerating, Statement, Terms

pytestmark = pytest.mark.django_db(transaction=True)

PAGES = {
    "index": "/admin/",
    "analytics": "/admin/analytics/",
    "costs": "/admin/costs/",
    "clients": "/admin/clients/client/",
    "client": "/admin/clients/client/{client}/change/",
    "client-new": "/admin/onboard/",
    "client-import": "/admin/clients/client/import/",
    "client-suspend": "/admin/clients/client/{client}/status/suspended/",
    "client-plan": "/admin/clients/client/plan/?ids={client}",
    "plans": "/admin/clients/plan/",
    "plan": "/admin/clients/plan/{plan}/change/",
    "keys": "/admin/keys/apikey/",
    "key": "/admin/keys/apikey/{key}/change/",
    "key-issue": "/admin/keys/apikey/add/?client={client}",
    "key-regenerate": "/admin/keys/apikey/{key}/regenerate/",
    "key-revoke": "/admin/keys/apikey/{key}/revoke/",
    "client-usage-link": "/admin/usage-link/{client}/",
    "client-own-page": "/usage/{usage_token}/",
    "key-handed-over": "/keys/{token}/",
    "key-not-shown-again": "/admin/keys/apikey/{key}/new/",
    "usage": "/admin/usage/usagerecord/",
    "exports": "/admin/usage/exportschedule/",
    "export": "/admin/usage/exportschedule/{schedule}/change/",
    "alerts": "/admin/usage/alert/",
    "alert": "/admin/usage/alert/{alert}/change/",
    "alert-receivers": "/admin/usage/receiver/",
    "alert-receiver": "/admin/usage/receiver/{receiver}/change/",
    "alert-receiver-new": "/admin/usage/receiver/add/",
    "alert-receiver-secret": "/admin/usage/receiver/{receiver}/secret/",
    "alert-rules": "/admin/usage/alertrules/1/change/",
    "reconciliation": "/admin/reconciliation/",
    "statements": "/admin/usage/statement/",
    "statement": "/admin/usage/statement/{statement}/change/",
    "closing": "/admin/closing/",
    "terms": "/admin/usage/terms/",
    "terms-new": "/admin/usage/terms/add/",
    "export-new": "/admin/usage/exportschedule/add/",
    "reratings": "/admin/usage/rerating/",
    "rerating": "/admin/usage/rerating/{rerating}/change/",
    "rerating-new": "/admin/usage/rerating/add/?model={model}",
    "providers": "/admin/pricing/provider/",
    "provider": "/admin/pricing/provider/{provider}/change/",
    "provider-connection": "/admin/pricing/provider/{provider}/connection/",
    "provider-new": "/admin/pricing/provider/add/",
    "models": "/admin/pricing/model/",
    "model": "/admin/pricing/model/{model}/change/",
    "price-new": "/admin/pricing/model/{model}/price/",
    "team": "/admin/auth/user/",
    "settings": "/admin/settings/",
    "audit-log": "/admin/clients/auditentry/",
    "audit-entry": "/admin/clients/auditentry/{entry}/change/",
    "client-history": "/admin/clients/client/{client}/history/",
    "tokens": "/admin/tokens/",
    "time-zone": "/admin/time-zone/",
    "second-factor": "/accounts/2fa/",
    "sessions": "/accounts/sessions/",
    "password-forgotten": "/accounts/password/reset/",
    "password-link-sent": "/accounts/password/reset/done/",
    "person": "/admin/auth/user/{person}/change/",
    "person-invitation": "/admin/auth/user/{person}/invitation/",
    "invitation": "/accounts/invitation/{invitation}/",
    "password": "/accounts/password/change/",
    "sign-out": "/accounts/logout/",
}


def statement_of(client: Client) -> Statement:
    """Close a month of long ago, whose minimum is all there is to pay."""
    Client.objects.filter(pk=client.pk).update(created_at=datetime(2025, 1, 1, tzinfo=UTC))
    client.refresh_from_db()
    Terms.objects.create(client=client, since=date(2025, 1, 1), minimum=25 * PICO, currency="EUR", rate=920_000)
    return close(drafts([client], date(2025, 1, 1), timezone.now())[0], None, timezone.now())


def told_of(client: Client) -> Receiver:
    """Tell somebody of something, in vain."""
    AlertRules.objects.create()
    receiver = Receiver.objects.create(name="n8n", way="webhook", url="https://127.0.0.1/webhook")
    raise_all([Found(Kind.SILENT, "1", f"{client} has made no call for 3 days", client)], timezone.now())
    deliver_due()
    return receiver


def mended(client: Client, model: Model) -> Rerating:
    """A wrong price, figured and waiting to be applied."""
    moments = {"start": datetime(2025, 1, 1, tzinfo=UTC), "end": datetime(2025, 2, 1, tzinfo=UTC)}
    rerating = Rerating.objects.create(model=model, state="figured", reason="Typing error", **moments)
    RerateStep.objects.create(rerating=rerating, input=150_000, output=600_000)
    RerateSum.objects.create(rerating=rerating, client=client, month=date(2025, 1, 1), calls=9, cost_before=PICO)
    return rerating


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the console has said since it was last asked: errors, the policy's refusals among them."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_pages_keep_the_policy_and_are_usable(operator: Operator, theme: str, width: int) -> None:
    browser = operator.browser
    # The window of headless Chromium is never narrower than 500
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    client = create_client("Dental Clinic", ["credits=25/month"], make_plan("Basic", "requests=100/day"))
    key, plain = issue(client, "their n8n")
    _, token = handover.make(key, plain, None)
    provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    model = Model.objects.create(name="gpt-4o-mini", provider=provider)
    new_price(model, [Step(150_000, 700_000)], None, None)
    colleague = get_user_model().objects.create_user("ana", "ana@example.com")
    set_role(colleague, Role.OPERATOR)
    client.suspend("unpaid")
    client.activate()
    rows = {
        "entry": entries_about(client)[0],
        "client": client,
        "key": key,
        "plan": client.plan,
        "provider": provider,
        "model": model,
        "person": colleague,
        "schedule": ExportSchedule.objects.create(name="Monthly"),
        "statement": statement_of(client),
        "receiver": told_of(client),
        "alert": client.alerts.get(),
        "rerating": mended(client, model),
    }
    _, usage_token = client_links.make(client, None)
    tokens = {"token": token, "usage_token": usage_token, "invitation": invite(colleague)}
    ids = {name: row.pk for name, row in rows.items()} | tokens
    operator.opens("/accounts/login/")
    browser.execute_script(f"localStorage.setItem('adminTheme', '\"{theme}\"')")
    browser.refresh()
    operator.takes_a_picture(f"sign-in-{theme}-{width}")
    assert_usable(browser)
    sign_in(operator)
    wrong = []
    for name, path in PAGES.items():
        operator.opens(path.format(**ids))
        operator.takes_a_picture(f"{name}-{theme}-{width}")
        if browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth"):
            wrong.append(f"{name}: is wider than {width} pixels")
        wrong += [f"{name}: {found}" for found in findings(browser)]
        assert browser.execute_script("return document.documentElement.classList.contains('dark')") is (theme == "dark")
    assert not wrong, "\n".join(wrong)
    assert complaints(browser) == []


def test_a_script_in_a_page_does_not_run(operator: Operator) -> None:
    sign_in(operator)
    browser = operator.browser
    assert complaints(browser) == []
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s)"
    )
    assert browser.execute_script("return window.ran") is None
    assert any("Content Security Policy" in line for line in complaints(browser))


def test_the_search_box_finds_a_client_by_keyboard(operator: Operator) -> None:
    create_client("Dental Clinic")
    sign_in(operator)
    browser = operator.browser
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.CONTROL, "k")
    box = browser.find_element(By.ID, "search-input-command")
    WebDriverWait(browser, 10).until(lambda _: box.is_displayed())
    box.send_keys("dental")
    WebDriverWait(browser, 10).until(lambda _: "Dental Clinic" in operator.sees)
    assert_usable(browser)


def test_times_are_where_the_browser_is(operator: Operator) -> None:
    operator.browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kathmandu"})
    sign_in(operator)
    operator.opens("/admin/clients/auditentry/")
    assert "+0545" in operator.sees
    operator.opens("/admin/time-zone/")
    assert "+0545" in operator.sees
    operator.chooses("Europe/Berlin", "time_zone")
    operator.clicks("#content-main button[type=submit]")
    assert "CET" in operator.sees or "CEST" in operator.sees
