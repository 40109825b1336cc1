"""A relay and nothing else: the gateway's own edge and upstream client without key, limits, cost and journal.

What the gateway is compared with where the question is what its work costs, beyond moving bytes.
`python -m bench.relay --upstream PORT` prints the port it listens on.
"""

import argparse
import asyncio

import uvloop

from proxy.errors import GatewayError
from proxy.exchange import Exchange, HeaderList, Request
from proxy.server import Server
from proxy.upstream import Pool
from proxy.upstream_response import Target


class Relay:
    """Serves every request by passing it on, and its answer back."""

    def __init__(self, port: int) -> None:
        self._pool = Pool()
        self._target = Target("127.0.0.1", port, tls=False, allow_private=True)
        self._head = b"host: 127.0.0.1:%d\r\nauthorization: Bearer sk-bench\r\n" % port

    def check(self, request: Request) -> None:
        """Refuse nothing."""

    def render(self, request: Request, error: GatewayError) -> tuple[int, HeaderList, bytes]:
        """An error of the edge itself."""
        return error.status, [], error.body()

    async def serve(self, exchange: Exchange) -> None:
        """Relay one request, as its bytes come."""
        request = exchange.request
        head = b"%b %b HTTP/1.1\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (
            request.method,
            request.target,
            self._head,
            len(request.body),
        )
        response = await self._pool.send(self._target, head + request.body)
        try:
            kind = (b"content-type", response.header(b"content-type") or b"application/json")
            if not kind[1].startswith(b"text/event-stream"):
                exchange.respond(response.status, [kind], await response.read(1 << 26))
                return
            exchange.start(response.status, [kind])
            while chunk := await response.chunk():
                exchange.send(chunk)
                await exchange.drain()
            exchange.finish()
        finally:
            self._pool.release(response)


async def _serve(upstream: int) -> None:
    server = Server(Relay(upstream), max_body=1 << 25)
    print(await server.listen("127.0.0.1", 0), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.relay")
    parser.add_argument("--upstream", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().upstream))
