from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import time

import pytest
from allauth.account.internal.flows.login import _AUTHENTICATION_METHODS_USER_SESSION_KEY as USER_OF_METHODS
from django.contrib.auth.models import User
from django.test import Client as Browser

from clients.access import Role, set_role
from tests.installation import Installation


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Make installations that end with the test."""
    with ExitStack() as stack:
        count = 0

        def make(**environment: str) -> Installation:
            nonlocal count
            count += 1
            return stack.enter_context(Installation(tmp_path / f"data{count}", **environment))

        yield make


@pytest.fixture(autouse=True, scope="session")
def _tests_may_empty_append_only_tables() -> Iterator[None]:
    """Let the flush after a test with real transactions through: triggers would refuse it."""
    from django.test import TransactionTestCase

    from clients.append_only import STATEMENTS_SAY, unlocked

    flush = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]

    def flush_all(case: TransactionTestCase) -> None:
        lines, statements = (unlocked(name, says=STATEMENTS_SAY) for name in ("usage_statementline", "usage_statement"))
        with unlocked("clients_auditentry"), lines, statements:
            flush(case)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", flush_all)
        yield


def browser_of(role: Role) -> Browser:
    """Return the browser of somebody new in that role, signed in."""
    user = User.objects.create_user(role.value)
    set_role(user, role)
    browser = Browser()
    browser.force_login(user)
    return browser


def sign_in_freshly(browser: Browser) -> Browser:
    """Make the sign-in of a browser one that dangerous acts accept."""
    session = browser.session
    session["account_authentication_methods"] = [{"method": "password", "at": time()}]
    session[USER_OF_METHODS] = session["_auth_user_id"]
    session.save()
    return browser


@pytest.fixture
def admin_client(admin_client: Browser) -> Browser:
    return sign_in_freshly(admin_client)
