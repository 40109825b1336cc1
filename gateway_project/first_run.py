"""What a fresh installation needs before anybody can try it: an operator, the sandbox, a provider, a demo client."""

import secrets
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from clients.models import Client
from clients.onboarding import create_client
from keys.lifecycle import issue
from pricing.catalogue import install_openai, install_sandbox

OPERATOR = "admin"
DEMO_CLIENT = "Demo"
DEMO_LIMITS = ("requests=1000/day", "credits=5/month")


@dataclass(frozen=True, slots=True)
class Welcome:
    """What is shown once: the operator's password and the demo client's key, in plain text. Never log it."""

    operator: str
    password: str
    demo_client: str
    demo_key: str


def prepare() -> Welcome | None:
    """Set up a database that has no user yet; return what to show, or None where all of it was there.

    All or nothing: a start that is cut short here is a first run again next time.
    """
    users = get_user_model().objects
    with transaction.atomic():
        install_sandbox()
        if users.exists():
            return None
        if settings.OPENAI_API_KEY:
            install_openai(settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY)
        password = secrets.token_urlsafe(15)
        users.create_superuser(username=OPERATOR, email="", password=password)
        client = Client.objects.filter(name=DEMO_CLIENT).first() or create_client(DEMO_CLIENT, limits=list(DEMO_LIMITS))
        _, key = issue(client, name="demo")
        return Welcome(OPERATOR, password, client.name, key)


def banner(address: str, welcome: Welcome | None) -> str:
    """Return what the console shows when all is up; `welcome` is of a first run."""
    if welcome is None:
        return (
            f"\nThe gateway answers at {address}/v1, the back office at {address}/admin/.\n"
            "A lost password: .venv/bin/python manage.py changepassword admin. "
            "Another key: .venv/bin/python manage.py createkey --client NAME.\n"
            "Ctrl-C stops everything.\n"
        )
    return f"""
The gateway is up. The password and the key below are shown this once.

  Base URL for clients   {address}/v1
  Back office            {address}/admin/
    user                 {welcome.operator}
    password             {welcome.password}
  Key of client {welcome.demo_client:<9}{welcome.demo_key}

A first call, to copy:

curl {address}/v1/chat/completions \\
  -H "Authorization: Bearer {welcome.demo_key}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "sandbox", "messages": [{{"role": "user", "content": "Hello"}}]}}'

Ctrl-C stops everything.
"""
