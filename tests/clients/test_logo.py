"""The agency's logo: taken in as a picture and nothing else, shown to clients, kept on the statements of its time."""

import io
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clients.agency import agency
from clients.logo_pictures import LARGEST
from clients.models import AuditEntry, Client, Logo
from keys import handover
from keys.lifecycle import issue
from usage import client_links
from usage.closing import close, drafts
from usage.statement_pdf import pdf
from usage.statements import Statement

pytestmark = pytest.mark.django_db


def picture(kind: str = "PNG", size: tuple[int, int] = (300, 90), color: str = "#c02020", **options: Any) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, color).save(content, kind, **options)
    return content.getvalue()


def send(browser: Browser, content: bytes, name: str = "logo.png", **more: str) -> Any:
    return browser.post(
        reverse("admin:settings"), {"name": "Bright", "new_logo": SimpleUploadedFile(name, content)} | more
    )


def january(client: Client) -> Statement:
    return close(drafts([client], date(2025, 1, 1), timezone.now())[0], None, timezone.now())


@pytest.fixture
def acme() -> Client:
    client = Client.objects.create(name="Acme")
    Client.objects.filter(pk=client.pk).update(created_at=datetime(2025, 1, 1, tzinfo=UTC))
    return Client.objects.get(pk=client.pk)


def test_it_is_on_what_clients_see_and_served_to_whoever_is_shown_it(admin_client: Browser, acme: Client) -> None:
    assert send(admin_client, picture()).status_code == 302
    logo = agency().logo
    assert logo is not None
    address = reverse("logo", args=[logo.digest])
    key, plain = issue(acme, "n8n")
    pages = [
        reverse("handover", args=[handover.make(key, plain, None)[1]]),
        reverse("client_usage", args=[client_links.make(acme, None)[1]]),
    ]
    for page in pages:
        assert f'src="{address}"' in Browser().get(page).content.decode()
    served = Browser().get(address)
    assert (served["Content-Type"], served["X-Content-Type-Options"]) == ("image/png", "nosniff")
    assert Image.open(io.BytesIO(served.content)).size == (300, 90)
    assert Browser().get(reverse("logo", args=["0" * 64])).status_code == 404
    (entry,) = AuditEntry.objects.filter(content_type__model="agency", changes__has_key="logo")
    assert entry.changes["logo"][1] == str(logo)


def test_nothing_but_the_picture_is_kept_and_it_is_no_larger_than_is_shown(admin_client: Browser) -> None:
    told = PngInfo()
    told.add_text("Comment", "<script>alert(1)</script>")
    send(admin_client, picture(size=(2000, 500), pnginfo=told) + b"<?php trailing ?>")
    logo = agency().logo
    assert logo is not None
    assert (logo.width, logo.height) == (640, 160)
    assert b"script" not in bytes(logo.png)
    assert b"php" not in bytes(logo.png)


def test_the_same_picture_is_kept_once_and_a_photograph_is_one_too(admin_client: Browser) -> None:
    send(admin_client, picture())
    send(admin_client, picture())
    assert Logo.objects.count() == 1
    send(admin_client, picture("JPEG", color="#20c020"), "logo.jpg")
    assert Logo.objects.count() == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "no PNG or JPEG picture"),
        (b"GIF89a" + b"\0" * 50, "no PNG or JPEG picture"),
        (picture()[:60], "no PNG or JPEG picture"),
        (picture("GIF"), "no PNG or JPEG picture"),
        (picture() + b"\0" * LARGEST, "larger than 200 kB"),
        (picture(size=(5000, 5000)), "5000 × 5000 pixels"),
    ],
    ids=["svg", "no gif", "cut short", "gif", "large", "many pixels"],
)
def test_what_is_no_picture_of_a_bearable_size_is_refused_and_said_so(
    admin_client: Browser, content: bytes, told: str
) -> None:
    answer = send(admin_client, content)
    assert answer.status_code == 200
    assert told in answer.content.decode()
    assert not Logo.objects.exists()


def test_a_statement_keeps_the_logo_of_its_day(admin_client: Browser, acme: Client) -> None:
    send(admin_client, picture())
    statement = january(acme)
    with_logo = pdf(Statement.objects.get(pk=statement.pk))
    assert b"/Subtype /Image" in with_logo
    assert admin_client.post(reverse("admin:settings"), {"name": "Bright", "without_logo": "on"}).status_code == 302
    assert agency().logo is None
    again = Statement.objects.get(pk=statement.pk)
    assert again.agency_logo is not None
    assert pdf(again) == with_logo
    other = Client.objects.create(name="Beta")
    Client.objects.filter(pk=other.pk).update(created_at=datetime(2025, 1, 1, tzinfo=UTC))
    assert b"/Subtype /Image" not in pdf(january(Client.objects.get(pk=other.pk)))


def test_settings_saved_without_a_picture_keep_the_one_there_is(admin_client: Browser) -> None:
    send(admin_client, picture())
    admin_client.post(reverse("admin:settings"), {"name": "Brighter"})
    assert agency().name == "Brighter"
    assert agency().logo is not None
