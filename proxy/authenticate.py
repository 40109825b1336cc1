"""From a bearer key to a grant. A wrong key learns nothing; the holder of a real one is told what is the matter."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from keys.tokens import digest, well_formed
from proxy.directory import Directory, Grant
from proxy.errors import (
    ClientInactive,
    ClientSuspended,
    InvalidKey,
    KeyExpired,
    KeyRevoked,
    TooManyWrongKeys,
)
from proxy.exchange import Request

WRONG_KEYS_A_MINUTE = 20
ADDRESSES_REMEMBERED = 10_000
_MINUTE = 60_000_000

_NO_KEY = (
    "You didn't provide an API key. Send the gateway's key (llm_gw_…) in the header 'Authorization: Bearer <key>'."
)
_TWO_KEYS = "The request carries more than one Authorization header."
_NO_BEARER = "The Authorization header must read 'Bearer <key>', with the gateway's key (llm_gw_…)."
_WRONG_KEY = "Incorrect API key provided. Ask whoever runs this gateway for a valid one."


class WrongKeys:
    """Counts wrong keys by address (IPv6: by /64, which one host owns whole), for a bounded number of addresses."""

    def __init__(self) -> None:
        self._since: OrderedDict[str, tuple[int, int]] = OrderedDict()  # address -> (start of its minute, count)

    def check(self, address: str, now: int) -> None:
        """Raise TooManyWrongKeys where this address has used up its wrong keys. `now` in µs."""
        start, count = self._since.get(_network(address), (0, 0))
        if count >= WRONG_KEYS_A_MINUTE and now - start < _MINUTE:
            seconds = max(1, -(-(start + _MINUTE - now) // 1_000_000))
            raise TooManyWrongKeys(
                "Too many requests with a wrong API key from this address.",
                headers=((b"retry-after", b"%d" % seconds),),
            )

    def count(self, address: str, now: int) -> None:
        """Note one wrong key."""
        network = _network(address)
        start, count = self._since.pop(network, (now, 0))
        if not 0 <= now - start < _MINUTE:
            start, count = now, 0
        self._since[network] = (start, count + 1)
        if len(self._since) > ADDRESSES_REMEMBERED:
            self._since.popitem(last=False)


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped is not None else str(int(parsed) >> 64)
    return address


def bearer(request: Request) -> bytes:
    """The key text of the one Authorization header. Raises InvalidKey."""
    values = [value for name, value in request.headers if name == b"authorization"]
    if len(values) != 1:
        raise InvalidKey(_TWO_KEYS if values else _NO_KEY)
    scheme, _, key = values[0].partition(b" ")
    key = key.strip()
    if scheme.lower() != b"bearer" or not key:
        raise InvalidKey(_NO_BEARER)
    return key


class Authenticator:
    """Turns a request into a grant, or into the right refusal."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._wrong_keys = WrongKeys()

    def known(self, request: Request, address: str, now: int) -> Grant | None:
        """The grant of the request's key, if this process knows the key; None where only the database can tell.

        Raises InvalidKey or TooManyWrongKeys for what can be no key at all. Whether it may be used, `admit` tells.
        """
        try:
            key = bearer(request)
            if not well_formed(key):
                raise InvalidKey(_WRONG_KEY)
        except InvalidKey:
            self._wrong_keys.check(address, now)
            self._wrong_keys.count(address, now)
            raise
        grant = self._directory.known(digest(key))
        if grant is None:
            self._wrong_keys.check(address, now)
        return grant

    async def find(self, request: Request, address: str, now: int) -> Grant:
        """As `known`, for a key that may have been made a moment ago: the database is asked.

        Raises InvalidKey or AuthUnavailable.
        """
        grant = await self._directory.find(digest(bearer(request)))
        if grant is None:
            self._wrong_keys.check(address, now)
            self._wrong_keys.count(address, now)
            raise InvalidKey(_WRONG_KEY)
        return grant


def admit(grant: Grant, now: int) -> None:
    """Raise KeyRevoked, KeyExpired, ClientSuspended or ClientInactive unless the grant may be used at `now` (µs)."""
    if grant.revoked:
        raise KeyRevoked("This API key has been revoked.")
    if grant.expires_at is not None and grant.expires_at <= now:
        raise KeyExpired("This API key has expired. Ask whoever runs this gateway for a new one.")
    if grant.client.status != "active":
        if grant.client.status == "suspended":
            raise ClientSuspended("This account is suspended. Ask whoever runs this gateway.")
        raise ClientInactive("This account is closed.")
