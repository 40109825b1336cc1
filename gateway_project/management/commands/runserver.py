"""Django's development server with /v1 beside it: one process, reloading, slower than the four of `make run`."""

import os
import threading
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.management.commands.runserver import Command as DjangoRunserver

from gateway_project.gateway import CannotStart, Handle, serve_in_thread
from usage.ingest import Ingest


class Command(DjangoRunserver):
    """Serve everything at the address asked for: the edge in front, Django behind it on a free loopback port."""

    help = "Serves the control plane and /v1 in one process for development, and reloads when code changes."
    default_port = str(settings.PORT)
    edge: Handle | None = None
    addr: str  # set by Django before inner_run
    port: str
    _raw_ipv6: bool

    def run(self, **options: Any) -> None:
        """Run until Ctrl-C or the next change; then settle what is under way, before the interpreter comes down."""
        self.stop_ingest = threading.Event()
        self.ingest = threading.Thread(
            target=Ingest(settings.JOURNAL_DIR).run_forever, args=(self.stop_ingest,), name="ingest", daemon=True
        )
        try:
            super().run(**options)
        finally:
            if self.edge:
                self.edge.stop()
                self.stop_ingest.set()
                self.ingest.join(timeout=10)

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Run Django's server where only the edge finds it; the edge takes the address that was asked for."""
        self.public_host, self.public_port, self.public_raw_ipv6 = self.addr, int(self.port), self._raw_ipv6
        self.addr, self.port, self.use_ipv6, self._raw_ipv6 = "127.0.0.1", "0", False, False
        super().inner_run(*args, **options)

    def on_bind(self, server_port: int) -> None:
        """Start the edge and the ingest thread, now that the port of Django's server is known."""
        try:
            self.edge = serve_in_thread(self.public_host, self.public_port, web_port=server_port)
        except CannotStart as error:
            self.stderr.write(str(error))
            os._exit(1)  # as Django does here: sys.exit would end this thread alone, and the reloader wait on
        self.ingest.start()
        self.addr, self._raw_ipv6 = self.public_host, self.public_raw_ipv6
        super().on_bind(self.edge.port)
