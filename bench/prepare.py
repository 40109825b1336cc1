"""Makes the installation that is measured, in DATA_DIR, and prints what the benchmark must know of it as JSON.

Run as `python -m bench.prepare --stub PORT --stream-stub PORT`: it has Django; the benchmark itself does not.
"""

import argparse
import json
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
django.setup()

from django.conf import settings  # noqa: E402 - Django must be set up first
from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client as Browser  # noqa: E402
from django.utils import timezone  # noqa: E402

from bench.cases import JSON_MODEL, OPEN_MODEL, STREAM_MODEL  # noqa: E402
from clients.onboarding import create_client  # noqa: E402
from keys import tokens  # noqa: E402
from keys.lifecycle import issue  # noqa: E402
from pricing.models import Model, Price, Provider  # noqa: E402

LIMITS = ("requests=1000000000/minute", "tokens=1000000000000/day", "credits=1000000/month", "sessions=1000000/month")


def provider(name: str, port: int, models: tuple[str, ...]) -> None:
    """A provider on loopback with priced models."""
    made = Provider(name=name, kind=Provider.Kind.OPENAI, base_url=f"http://127.0.0.1:{port}/v1")
    made.set_credential("sk-bench")
    made.full_clean()
    made.save()
    for model_name in models:
        model = Model.objects.create(name=model_name, provider=made)
        Price.objects.create(
            model=model, effective_from=timezone.now(), input=150_000, cached_input=75_000, output=600_000
        )


def main() -> None:
    """Migrate, make providers, models, prices, clients, keys and an operator who is signed in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stub", type=int, required=True)
    parser.add_argument("--stream-stub", type=int, required=True)
    ports = parser.parse_args()
    call_command("migrate", verbosity=0)
    provider("json", ports.stub, (JSON_MODEL,))
    provider("streams", ports.stream_stub, (STREAM_MODEL, OPEN_MODEL))
    _, key = issue(create_client("Served", limits=LIMITS))
    _, spent_key = issue(create_client("Spent", limits=("requests=1/total", *LIMITS[1:])))
    browser = Browser()
    browser.force_login(get_user_model().objects.create_superuser("bench", "", "not-used-by-anybody"))
    session = browser.cookies[settings.SESSION_COOKIE_NAME].value
    print(json.dumps({"key": key, "spent_key": spent_key, "wrong_key": tokens.generate(), "session": session}))


if __name__ == "__main__":
    main()
