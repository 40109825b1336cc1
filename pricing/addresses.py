"""Which addresses a provider's base URL may lead to: public ones, unless ALLOW_PRIVATE_PROVIDERS.

`check_base_url` judges the text at save, `is_public` every address again at connect: names change their answers.
"""

import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

Resolver = Callable[[str], Iterable[str]]

# IANA special-purpose registries, as of 2025, plus what clouds answer metadata on in otherwise public space.
_SPECIAL_V4 = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent
        "169.254.0.0/16",  # link-local; 169.254.169.254 is most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
# Only 2000::/3 is global unicast; loopback, fc00::/7 (fd00:ec2::254 is Amazon's metadata), fe80::/10, ff00::/8 and
# the deprecated ::/96 all lie outside it.
_GLOBAL_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")

_LABELS = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_LONGEST_NAME = 253  # RFC 1035
_PRIVATE_HINT = "set ALLOW_PRIVATE_PROVIDERS to let providers have private addresses"


def is_public(ip: str) -> bool:
    """Say whether an IP address in plain notation is on the public Internet; False for text that is no address.

    IPv4-mapped, 6to4 and NAT64 forms count as the IPv4 address they carry.
    """
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        carried = _carried(address)
        if carried is None:
            return address in _GLOBAL_V6 and not any(address in block for block in _SPECIAL_V6)
        address = carried
    return not any(address in block for block in _SPECIAL_V4)


def resolve(host: str) -> list[str]:
    """Return all addresses of a host name by the system's resolver. Raises OSError where it has none."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a base URL leads: the name to ask for, and the judged addresses to ask at."""

    host: str
    port: int
    tls: bool
    addresses: tuple[str, ...]


def check_base_url(url: str, resolver: Resolver = resolve) -> None:
    """Raise ValidationError, in one sentence, unless `url` may be a provider's base URL.

    With ALLOW_PRIVATE_PROVIDERS http and every address pass, and names need not resolve yet.
    """
    host = _allowed_host(_split(url))
    if settings.ALLOW_PRIVATE_PROVIDERS or _literal(host) is not None:
        return
    try:
        _judged(host, resolver)
    except OSError as error:
        raise _refusal(f"The host {host} of the base URL does not resolve.") from error


def destination(url: str, resolver: Resolver = resolve) -> Destination:
    """Resolve a base URL to what may be dialled.

    Raises ValidationError where it may not be, as `check_base_url`, and OSError where the host does not resolve.
    """
    parts = _split(url)
    host = _allowed_host(parts)
    tls = parts.scheme == "https"
    literal = _literal(host)
    addresses = _judged(host, resolver) if literal is None else [str(literal)]
    return Destination(host, parts.port or (443 if tls else 80), tls, tuple(dict.fromkeys(addresses)))


def _allowed_host(parts: SplitResult) -> str:
    """Return the host, after what can be said without asking a name server. Raises ValidationError."""
    host = _host(parts)
    private_allowed = settings.ALLOW_PRIVATE_PROVIDERS
    literal = _literal(host)
    if literal is not None:
        if not private_allowed and not is_public(str(literal)):
            raise _refusal(f"The base URL leads to {literal}, which is not a public address; {_PRIVATE_HINT}.")
        # 010.8.8.8 is 8.8.8.8 to one program and 10.8.8.8 to the next; what we judge must be what is dialled.
        if isinstance(literal, IPv4Address) and host != str(literal):
            raise _refusal(f"Write the address in the base URL as {literal}, not as {host}.")
    elif not private_allowed and (host == "localhost" or host.endswith(".localhost")):
        raise _refusal(f"The base URL leads to this machine ({host}); {_PRIVATE_HINT}.")
    return host


def _judged(host: str, resolver: Resolver) -> list[str]:
    """Return all addresses of a name. Raises ValidationError for one not allowed, OSError where there is none."""
    addresses = list(resolver(host))
    if not addresses:
        raise OSError("no address")
    for address in addresses:
        if not settings.ALLOW_PRIVATE_PROVIDERS and not is_public(address):
            raise _refusal(f"The host {host} of the base URL leads to {address}, which is not public; {_PRIVATE_HINT}.")
    return addresses


def _split(url: str) -> SplitResult:
    # urlsplit drops tabs and line ends silently, and browsers read a backslash as a slash: refuse what parsers dispute.
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        raise _refusal("The base URL contains a space, a control character or a backslash.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refusal("The base URL cannot be read as a URL.") from error
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.ALLOW_PRIVATE_PROVIDERS):
        raise _refusal("The base URL must start with https://.")
    if not parts.hostname or port == 0:
        raise _refusal("The base URL needs a host, as in https://api.openai.com/v1.")
    if "@" in parts.netloc:
        raise _refusal("The base URL must not contain a user name or password; the credential has its own field.")
    if "?" in url or "#" in url:
        raise _refusal("The base URL must not contain a query or a fragment.")
    return parts


def _host(parts: SplitResult) -> str:
    """Return the host as it would be dialled: an IPv6 address, or lower-case ASCII without the trailing dot."""
    hostname = parts.hostname or ""
    if ":" in hostname:
        return hostname
    try:
        # IDNA also folds full-width digits and ideographic full stops into the ASCII that they are dialled as.
        host = hostname.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError as error:
        raise _refusal("The host of the base URL is not a valid name.") from error
    if len(host) > _LONGEST_NAME or not _LABELS.fullmatch(host):
        raise _refusal("The host of the base URL is not a valid name.")
    return host


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that `host` spells, in any notation the C library takes (127.1, 0x7f000001, 2130706433)."""
    if ":" in host:
        try:
            return IPv6Address(host.partition("%")[0])
        except ValueError as error:
            raise _refusal("The base URL contains an invalid IPv6 address.") from error
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _carried(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _refusal(sentence: str) -> ValidationError:
    return ValidationError(sentence, code="base_url")
