"""Who may sign in: users that an operator made, with second factors. Nobody makes an account for himself."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.http import HttpRequest

from pricing.credentials import decrypt, encrypt, reencrypt


class ClosedSignUp(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's rules with sign-up closed."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Return False: `/accounts/signup/` says that sign-up is closed."""
        return False

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Leave counting tries with a password to gateway_project.guessing."""


class SecondFactors(DefaultMFAAdapter):  # type: ignore[misc]
    """allauth's rules, with secrets encrypted like those of providers."""

    def encrypt(self, text: str) -> str:
        """Return what is stored of a secret."""
        return encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        """Return the secret. Raises UnreadableCredential."""
        return decrypt(encrypted_text)


def reencrypt_second_factors() -> int:
    """Encrypt the secrets of apps and recovery codes anew; return how many. Raises UnreadableCredential."""
    from allauth.mfa.models import Authenticator  # noqa: PLC0415 - models come after settings, which name this module

    count = 0
    for factor in Authenticator.objects.select_for_update():
        kept = {name: reencrypt(factor.data[name]) for name in _ENCRYPTED if factor.data.get(name)}
        if kept:
            factor.data = {**factor.data, **kept}
            factor.save(update_fields=["data"])
            count += 1
    return count


_ENCRYPTED = ("secret", "seed")
"""What allauth keeps of an app and of recovery codes."""
