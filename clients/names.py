"""What a name may be made of, whoever's it is."""

from typing import Final

from django.core.validators import RegexValidator

# Names go to terminals, logs, CSV and mail headers; the line and paragraph separators break lines there as well.
no_control_characters: Final = RegexValidator(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]",
    "Control characters are not allowed.",
    inverse_match=True,
)
