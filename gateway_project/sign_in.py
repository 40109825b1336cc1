"""Who may sign in: users that an operator made. Nobody makes an account for himself."""

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.http import HttpRequest

from pricing.credentials import decrypt, encrypt


class ClosedSignUp(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's rules with sign-up closed."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Return False: `/accounts/signup/` says that sign-up is closed."""
        return False


class SecondFactors(DefaultMFAAdapter):  # type: ignore[misc]
    """allauth's rules, with secrets encrypted like those of providers."""

    def encrypt(self, text: str) -> str:
        """Return what is stored of a secret."""
        return encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        """Return the secret. Raises UnreadableCredential."""
        return decrypt(encrypted_text)
