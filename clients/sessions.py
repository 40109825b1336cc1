"""Ending the sessions of a person who lost a computer, or whose account somebody else may be using."""

from allauth.usersessions.models import UserSession
from django.contrib.auth.models import User
from django.db import transaction

from pricing.audit import log_event


@transaction.atomic
def end_sessions(user: User) -> int:
    """Sign `user` out wherever he is signed in; return of how many places that was."""
    sessions = UserSession.objects.purge_and_list(user)
    for session in sessions:
        session.end()
    log_event(user, "ended the sessions of", {"sessions": [str(len(sessions)), "0"]})
    return len(sessions)
