"""Webhooks and mails of alerts: signed, tried again, never sent to where they must not go."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage as Mail
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from clients.access import Role, set_role
from clients.audit import AuditEntry
from clients.models import Client
from clients.onboarding import create_client
from tests.conftest import sign_in_freshly
from tests.pricing.servers import Server, flood, silence
from usage.alerts import outbox, webhook
from usage.alerts.models import Alert, Delivery, Kind, Receiver
from usage.alerts.outbox import RETRIED_AFTER, TAKEN_FOR, deliver_due, forget
from usage.alerts.watch import Found, raise_all

pytestmark = pytest.mark.django_db


class Inbox(ThreadingHTTPServer):
    """A receiver as n8n is one: keeps what it was sent, and answers each time as it was told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.statuses: list[int] = []
        self.taken: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/webhook/abc"


class _Post(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("location", "http://169.254.169.254/latest")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def inbox(settings: Any) -> Iterator[Inbox]:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    with Inbox() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def receiver(url: str, **fields: Any) -> Receiver:
    one = Receiver(name="n8n", way="webhook", url=url, **fields)
    one.full_clean()
    one.save()
    return one


def alarm(now: datetime, mark: str = "1") -> Alert:
    client = Client.objects.first() or create_client("Zahnärzte “Müller”", [])
    raise_all([Found(Kind.SILENT, mark, f"{client} has made no call for 3 days", client, facts={"days": 3})], now)
    return Alert.objects.get(mark=mark)


def test_a_webhook_is_signed_as_standard_webhooks_says(inbox: Inbox, settings: Any) -> None:
    settings.PUBLIC_URL = "https://gateway.example.com"
    one, now = receiver(inbox.url), timezone.now()
    alert = alarm(now)
    assert deliver_due(now) == 1
    assert deliver_due(now) == 0
    ((headers, body),) = inbox.taken
    key = base64.b64decode(one.signing_secret().removeprefix("whsec_"))
    assert len(key) == 24
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - now.timestamp()) < 2
    assert headers["content-type"] == "application/json"
    client = Client.objects.get()
    assert json.loads(body) == {
        "type": "client.silent",
        "timestamp": alert.raised_at.isoformat(),
        "data": {
            "title": "Zahnärzte “Müller” has made no call for 3 days",
            "url": f"https://gateway.example.com/admin/usage/alert/{alert.pk}/change/",
            "client": {"id": client.pk, "name": client.name},
            "days": 3,
        },
    }
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.told, delivery.attempts) == ("delivered", "Status 200", 1)


def test_the_signature_is_that_of_the_specifications_example() -> None:
    """From https://github.com/standard-webhooks/standard-webhooks, libraries' own tests."""
    signed = webhook.signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_does_not_arrive_is_tried_again_ever_more_rarely_and_given_up(inbox: Inbox) -> None:
    receiver(inbox.url)
    now = timezone.now()
    alarm(now)
    inbox.statuses = [500] * 20
    for wait in (*RETRIED_AFTER, timedelta(days=9)):
        assert deliver_due(now) == 0
        assert deliver_due(now + wait - timedelta(milliseconds=1)) == 0
        now += wait
    assert deliver_due(now + timedelta(days=99)) == 0
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.told) == ("failed", "Status 500.")
    assert delivery.attempts == len(inbox.taken) == len(RETRIED_AFTER) + 1
    assert len({headers["webhook-id"] for headers, _ in inbox.taken}) == 1


def test_it_arrives_once_the_receiver_is_back(inbox: Inbox) -> None:
    receiver(inbox.url)
    now = timezone.now()
    alarm(now)
    inbox.statuses = [503]
    assert deliver_due(now) == 0
    assert deliver_due(now + RETRIED_AFTER[0]) == 1
    assert inbox.taken[0][1] == inbox.taken[1][1]


def test_a_worker_that_dies_while_sending_is_stood_in_for(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver(inbox.url)
    now = timezone.now()
    alarm(now)

    def die(*_: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(outbox, "post", die)
        deliver_due(now)
    assert deliver_due(now + TAKEN_FOR - timedelta(seconds=1)) == 0
    assert deliver_due(now + TAKEN_FOR) == 1


def test_redirects_are_not_followed(inbox: Inbox) -> None:
    receiver(inbox.url)
    now = timezone.now()
    alarm(now)
    inbox.statuses = [302]
    assert deliver_due(now) == 0
    assert Delivery.objects.get().told == "Status 302: redirects are not followed. Enter the final address."


def test_one_receiver_that_hangs_keeps_no_other_waiting(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    monkeypatch.setattr(webhook, "SECONDS", 0.5)
    now = timezone.now()
    with Server(silence) as hangs:
        one = receiver(hangs.url(path="/hook"))
        Receiver.objects.create(name="mail", addresses="a@b.example")
        for number in range(5):
            alarm(now, f"{number}")
        assert deliver_due(now) == 5
        assert hangs.connections == 1
    waiting = Delivery.objects.filter(receiver=one)
    assert {delivery.state for delivery in waiting} == {"waiting"}
    assert "did not answer in full within 0.5 seconds" in "".join(waiting.values_list("told", flat=True))


def test_an_answer_without_an_end_is_not_read_to_it(settings: Any) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    now = timezone.now()
    with Server(flood) as server:
        receiver(server.url(path="/hook"))
        alarm(now)
        assert deliver_due(now) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://169.254.169.254/latest",
        "https://localhost/hook",
        "http://n8n.example.com/hook",
        "https://user:pw@n8n.example.com/hook",
        "ftp://n8n.example.com/hook",
        "n8n.example.com/hook",
        "",
    ],
)
def test_urls_that_lead_inside_or_nowhere_are_refused(url: str) -> None:
    with pytest.raises(ValidationError) as raised:
        receiver(url)
    assert "base URL" not in str(raised.value)


def test_a_name_that_turned_private_is_not_dialled(inbox: Inbox, settings: Any) -> None:
    one, now = receiver(inbox.url.replace("127.0.0.1", "localhost").replace("localhost", "127.0.0.1")), timezone.now()
    settings.ALLOW_PRIVATE_PROVIDERS = False
    Receiver.objects.filter(pk=one.pk).update(url="https://n8n.example.com/hook")
    one.refresh_from_db()
    with pytest.raises(webhook.NotDelivered, match=r"10\.0\.0\.7, which is not public"):
        webhook.post(one, "msg_1", {}, now, resolver=lambda host: ["10.0.0.7"])
    assert not inbox.taken


def test_mails_say_what_and_where(mailoutbox: list[Mail], settings: Any) -> None:
    settings.PUBLIC_URL = "https://gateway.example.com"
    one = Receiver(name="team", addresses="a@b.example, c@d.example\n")
    one.full_clean()
    one.save()
    now = timezone.now()
    alert = alarm(now)
    assert deliver_due(now) == 1
    (mail,) = mailoutbox
    assert mail.to == ["a@b.example", "c@d.example"]
    assert mail.subject == "Zahnärzte “Müller” has made no call for 3 days"
    assert f"/admin/usage/alert/{alert.pk}/change/" in str(mail.body)
    assert isinstance(mail.message(), EmailMessage | object)


@pytest.mark.parametrize("addresses", ["", "nobody", "a@b.example, x", ", ".join(["a@b.example"] * 21)])
def test_what_is_no_address_is_refused(addresses: str) -> None:
    with pytest.raises(ValidationError, match="addresses"):
        Receiver(name="team", addresses=addresses).full_clean()


def test_the_secret_is_encrypted_and_in_no_log(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    one = receiver(inbox.url)
    secret = one.signing_secret()
    assert secret.startswith("whsec_") and secret not in one.secret
    now = timezone.now()
    alarm(now)
    inbox.statuses = [500]
    deliver_due(now)
    entries = " ".join(str(entry.changes) for entry in AuditEntry.objects.all())
    assert one.secret not in entries and secret not in entries and "/webhook/abc" not in entries
    assert secret not in caplog.text


def test_the_page_sends_a_test_and_shows_the_secret_after_a_fresh_sign_in(inbox: Inbox) -> None:
    one = receiver(inbox.url)
    browser = Browser()
    browser.force_login(User.objects.create_superuser("boss"))
    page = reverse("admin:usage_receiver_change", args=[one.pk])
    answer = browser.post(reverse("admin:usage_receiver_test", args=[one.pk]), follow=True)
    assert "The test arrived. Status 200." in answer.content.decode()
    assert json.loads(inbox.taken[0][1])["type"] == "test"
    inbox.statuses = [404]
    answer = browser.post(reverse("admin:usage_receiver_test", args=[one.pk]), follow=True)
    assert "The test did not arrive. Status 404." in answer.content.decode()
    assert deliver_due(timezone.now() + timedelta(days=2)) == 0  # a test is tried once
    assert one.signing_secret() not in browser.get(page).content.decode()
    secret = reverse("admin:usage_receiver_secret", args=[one.pk])
    assert browser.get(secret).status_code == 302
    sign_in_freshly(browser)
    answer = browser.get(secret)
    assert one.signing_secret() in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]


def test_operators_have_receivers_of_their_own() -> None:
    ana, ben = User.objects.create_user("ana"), User.objects.create_user("ben")
    for person in (ana, ben):
        set_role(person, Role.OPERATOR)
    browser = Browser()
    browser.force_login(ana)
    form = {"name": "me", "enabled": "on", "way": "mail", "addresses": "ana@b.example", "url": "", "owner": ben.pk}
    assert browser.post(reverse("admin:usage_receiver_add"), form).status_code == 302
    one = Receiver.objects.get()
    assert one.owner == ana
    browser.force_login(ben)
    assert browser.get(reverse("admin:usage_receiver_change", args=[one.pk])).status_code == 404
    assert browser.post(reverse("admin:usage_receiver_test", args=[one.pk])).status_code == 404


def test_old_alerts_are_forgotten(inbox: Inbox) -> None:
    one, now = receiver(inbox.url), timezone.now()
    alarm(now)
    outbox.test(one, now)
    forget(now + timedelta(days=89))
    assert Alert.objects.count() == 1
    assert forget(now + timedelta(days=91)) == 3
    assert not Delivery.objects.exists()
