"""Whether mail goes out, tried by sending one, and if not, what to do, in words."""

import smtplib
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import send_mail

from clients.invitations import mails_are_sent

_SUBJECT = "A test mail of the LLM gateway"
_TEXT = (
    "This mail was asked for on the settings page. That it arrived says that invitations, notices and alerts will.\n"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a test mail."""

    ok: bool
    told: str


def server() -> str:
    """Return by which server mail goes out, without its password; '' where none does."""
    if not mails_are_sent():
        return ""
    if not settings.EMAIL_BACKEND.endswith(".smtp.EmailBackend"):
        return settings.EMAIL_BACKEND.rpartition(".backends.")[2].partition(".")[0]
    security = ", TLS" if settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL else ", unencrypted"
    name = f" as {settings.EMAIL_HOST_USER}" if settings.EMAIL_HOST_USER else ""
    return f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}{name}{security}"


def send_test_mail(to: User) -> Outcome:
    """Send a mail to `to` and say what came of it. Never inside a transaction: servers are slow."""
    if not mails_are_sent():
        return Outcome(False, "No mail is sent: set EMAIL_URL where the gateway runs, and start it again.")
    if not to.email:
        return Outcome(False, "Your account has no e-mail address: enter it on your page under Team.")
    try:
        send_mail(_SUBJECT, _TEXT, settings.DEFAULT_FROM_EMAIL, [to.email])
    except smtplib.SMTPAuthenticationError:
        return Outcome(False, "The mail server refuses the user name or the password in EMAIL_URL.")
    except smtplib.SMTPSenderRefused:
        return Outcome(False, f"The mail server refuses mail from {settings.DEFAULT_FROM_EMAIL} (DEFAULT_FROM_EMAIL).")
    except smtplib.SMTPRecipientsRefused:
        return Outcome(False, f"The mail server refuses mail to {to.email}.")
    except TimeoutError:
        return Outcome(False, f"The mail server does not answer within {settings.EMAIL_TIMEOUT} seconds. {_LOOK}")
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return Outcome(False, f"The mail server did not take the mail ({type(error).__name__}). {_LOOK}")
    return Outcome(True, f"The mail server took a mail to {to.email}. If it does not arrive, look among spam.")


_LOOK = "Look at host and port in EMAIL_URL, and whether a firewall stands between."
