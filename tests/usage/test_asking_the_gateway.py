"""The back office asks the gateway how limits stand, and no page waits for one that does not answer."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client as Browser

from clients.models import Client
from usage import standings

pytestmark = pytest.mark.django_db

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"


@pytest.fixture
def gateway(settings: Any) -> Iterator[Callable[[bytes, float], None]]:
    """Serve one thing to whoever connects: these bytes one by one, so many seconds apart."""
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    settings.HOST, settings.PORT = listening.getsockname()
    threads: list[threading.Thread] = []

    def serve(answer: bytes, apart: float) -> None:
        def answering(connection: socket.socket) -> None:
            with connection:
                for number in range(len(answer)):
                    try:
                        connection.sendall(answer[number : number + 1])
                    except OSError:
                        return
                    if over.wait(apart):
                        return
                over.wait()

        def accepting() -> None:
            while not over.is_set():
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=answering, args=(connection,)))
                threads[-1].start()

        threads.append(threading.Thread(target=accepting))
        threads[-1].start()

    yield serve
    over.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("answer", "apart"),
    [(b"", 0.0), (HEAD, 0.05), (HEAD + b" " * 1_000, 0.01), (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", 0.0)],
    ids=["silent", "slow head", "slow body", "broken"],
)
def test_a_page_does_not_wait_for_a_gateway_that_is_stuck(
    gateway: Callable[[bytes, float], None], admin_client: Browser, answer: bytes, apart: float
) -> None:
    gateway(answer, apart)
    began = time.perf_counter()
    assert standings.closest(Client.objects.all()) is None
    assert time.perf_counter() - began < 2.5  # 0.5 on a machine that is not busy; what is sent takes 3.5 and more
    assert "The gateway does not answer" in admin_client.get("/admin/").content.decode()


def test_a_gateway_that_is_not_there_is_one_that_does_not_answer(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings.HOST, settings.PORT = taken.getsockname()
    assert standings.of_client(Client.objects.create(name="Acme")) is None
