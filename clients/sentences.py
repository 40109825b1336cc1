"""Validation errors as people read them on a terminal."""

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError


def sentence(error: ValidationError) -> str:
    """Return all of `error` on one line, each message behind the field that it is about."""
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    return " ".join(
        message if field == NON_FIELD_ERRORS else f"{field}: {message}"
        for field, messages in error.message_dict.items()
        for message in messages
    )
