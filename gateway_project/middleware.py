"""What every answer of the control plane gets."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]


def secure_cookies(get_response: GetResponse) -> GetResponse:
    """Mark every cookie Secure that is set over https, also where PUBLIC_URL was forgotten.

    The settings alone cannot: with them on, nobody could sign in at http://127.0.0.1.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.is_secure():
            for cookie in response.cookies.values():
                cookie["secure"] = True
        return response

    return middleware
