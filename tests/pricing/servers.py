"""Servers that a provider's base URL may lead to: each answers every connection in one scripted way."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Talk = Callable[[socket.socket, threading.Event], None]


def answer(status: int, body: bytes = b"", *headers: str, content_type: str = "application/json") -> Talk:
    """Read a request's head, answer it and close."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", f"content-type: {content_type}", *headers]
    return raw("\r\n".join([*lines, "connection: close", "", ""]).encode() + body)


def raw(data: bytes) -> Talk:
    """Read a request's head, send these bytes and close."""

    def talk(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(data)

    return talk


def silence(connection: socket.socket, closing: threading.Event) -> None:
    """Say nothing until the test is over."""
    closing.wait()


def drip(connection: socket.socket, closing: threading.Event) -> None:
    """Send a head without an end, a byte at a time: no pause is ever long."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-endless: ")
    while not closing.wait(0.02):
        connection.sendall(b"a")


def flood(connection: socket.socket, closing: threading.Event) -> None:
    """Send a body without an end."""
    connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"data": [')
    while not closing.is_set():
        connection.sendall(b'{"id": "m"},' * 5_000)


class Server:
    """A listening socket and a thread per connection; a context manager. `heads` are the requests it has read."""

    def __init__(self, talk: Talk, tls: ssl.SSLContext | None = None) -> None:
        self._talk = talk
        self._tls = tls
        self._closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.heads: list[str] = []
        self.connections = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def url(self, host: str = "127.0.0.1", path: str = "/v1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            stream = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            head = b""
            while b"\r\n\r\n" not in head:
                piece = stream.recv(65536)
                if not piece:
                    return
                head += piece
            self.heads.append(head.decode())
            self._talk(stream, self._closing)
            stream.shutdown(socket.SHUT_WR)


class Authority:
    """A certificate authority made for the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + timedelta(days=400))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_ca_usage(), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, host: str, starts: timedelta = -timedelta(days=1), days: int = 30) -> ssl.SSLContext:
        """A server's TLS with a certificate for `host`, valid from now + `starts` for `days`."""
        key = ec.generate_private_key(ec.SECP256R1())
        begin = datetime.now(UTC) + starts
        alternative: x509.GeneralName = x509.DNSName(host)
        with contextlib.suppress(ValueError):
            alternative = x509.IPAddress(ip_address(host))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / f"server-{x509.random_serial_number()}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
