"""Who may sign in: users that an operator made. Nobody makes an account for himself."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class ClosedSignUp(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's rules with sign-up closed."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Return False: `/accounts/signup/` says that sign-up is closed."""
        return False
