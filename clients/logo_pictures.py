"""A logo taken in, decoded and drawn anew, and handed out: a picture, and nothing but that."""

import hashlib
import io
import re
from typing import Final

from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from PIL import Image, ImageOps

from clients.logos import Logo

LARGEST: Final = 200 * 1024
"""Bytes of an upload."""
_FORMATS: Final = ("PNG", "JPEG")
_PIXELS: Final = 16_000_000  # of an upload, once it is unpacked: 64 MB
_WIDEST, _HIGHEST = 640, 240  # pixels that are kept, several times what is shown
_DIGEST: Final = re.compile("[0-9a-f]{64}")


def keep(content: bytes) -> Logo:
    """Keep a PNG or JPEG picture and return it, the one that is there where it is the same. Raises ValidationError."""
    if len(content) > LARGEST:
        raise ValidationError(f"The picture is larger than {LARGEST // 1024} kB: make it smaller.")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as sent:
            if sent.width * sent.height > _PIXELS:
                raise ValidationError(f"The picture has {sent.width} × {sent.height} pixels: make it smaller.")
            picture = ImageOps.exif_transpose(sent).convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValidationError("This is no PNG or JPEG picture.") from error
    picture.thumbnail((_WIDEST, _HIGHEST))
    drawn = io.BytesIO()
    picture.save(drawn, "PNG", optimize=True)
    png = drawn.getvalue()
    sizes = {"png": png, "width": picture.width, "height": picture.height}
    return Logo.objects.get_or_create(digest=hashlib.sha256(png).hexdigest(), defaults=sizes)[0]


@require_safe
def logo_view(request: HttpRequest, digest: str) -> HttpResponse:
    """Hand out a logo to whoever knows its digest: it is on pages that need no sign-in. Raises Http404."""
    logo = Logo.objects.filter(digest=digest).first() if _DIGEST.fullmatch(digest) else None
    if logo is None:
        raise Http404
    forever = {"Cache-Control": "public, max-age=31536000, immutable"}
    return HttpResponse(bytes(logo.png), content_type="image/png", headers=forever)
