import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse


@pytest.fixture
def admin_client(admin_user: User) -> Browser:
    """A browser of an owner who has just signed in on the sign-in page: what is done to keys asks for that."""
    browser = Browser()
    answered = browser.post(reverse("account_login"), {"login": admin_user.username, "password": "password"})
    assert answered.status_code == 302, answered.content.decode()[-2000:]
    return browser
