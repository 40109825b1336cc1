"""Everything that is not /v1 goes on to the `web` process: the gateway owns the port, so one address is enough.

A fleet has a front proxy for that; then nothing of this is used.
"""

from ipaddress import IPv4Network, IPv6Network, ip_address

from proxy.exchange import Exchange, HeaderList, Request
from proxy.upstream import Pool
from proxy.upstream_response import Target, UpstreamError

# RFC 9110, section 7.6.1, and what the peer's own framing says.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade", b"content-length", b"expect")
)  # fmt: skip
_FORWARDED = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip"))

Networks = tuple[IPv4Network | IPv6Network, ...]

_AWAY = (
    b"<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=3><title>Starting</title>"
    b"<p style='font:16px system-ui;margin:4rem auto;max-width:30rem'>The back office is starting or restarting; "
    b"this page tries again by itself. Calls to /v1 are not affected.</p>"
)


def client_address(request: Request, trusted: Networks) -> str:
    """Who is calling: the peer, or what a trusted proxy in front says (the last address that is not itself trusted)."""
    address = request.peer
    if not trusted:
        return address
    hops = [hop.strip().decode("latin-1") for hop in (request.header(b"x-forwarded-for") or b"").split(b",")]
    while _within(address, trusted) and hops and hops[-1]:
        address = hops.pop()
    return address


def _within(address: str, networks: Networks) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks if network.version == parsed.version)


class WebRelay:
    """Relays a request to `web` and its answer back, as it comes."""

    def __init__(self, pool: Pool, port: int, trusted: Networks) -> None:
        self._pool = pool
        self._trusted = trusted
        # A page may compute for a while; the timeouts are for a process that hangs.
        self._target = Target("127.0.0.1", port, tls=False, first_byte_timeout=120.0, allow_private=True)

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request with what `web` says, or with a page that waits for it."""
        request = exchange.request
        try:
            response = await self._pool.send(
                self._target, self._head(request) + request.body, head_only=request.method == b"HEAD"
            )
        except UpstreamError:
            exchange.respond(503, [(b"content-type", b"text/html"), (b"retry-after", b"3")], _AWAY)
            return
        try:
            headers = [header for header in response.headers if header[0] not in _HOP_BY_HOP]
            length = response.header(b"content-length")
            if length is not None:
                exchange.respond(response.status, headers, await response.read(1 << 30))
                return
            exchange.start(response.status, headers)
            while chunk := await response.chunk():
                exchange.send(chunk)
                await exchange.drain()
            exchange.finish()
        except UpstreamError:
            if not exchange.started:
                exchange.respond(503, [(b"content-type", b"text/html"), (b"retry-after", b"3")], _AWAY)
            # else: the connection is closed unfinished, which tells the browser that something is missing
        finally:
            self._pool.release(response)

    def _head(self, request: Request) -> bytes:
        behind_proxy = _within(request.peer, self._trusted)
        scheme = request.header(b"x-forwarded-proto") if behind_proxy else None
        host = request.header(b"x-forwarded-host") if behind_proxy else None
        headers: HeaderList = [
            header for header in request.headers if header[0] not in _HOP_BY_HOP and header[0] not in _FORWARDED
        ]
        headers += [
            (b"x-forwarded-for", client_address(request, self._trusted).encode("latin-1")),
            (b"x-forwarded-proto", scheme or b"http"),
            (b"x-forwarded-host", host or request.header(b"host") or b""),
            (b"content-length", b"%d" % len(request.body)),
        ]
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method, request.target, lines)
