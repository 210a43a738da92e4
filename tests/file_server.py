"""Test vocabulary: files on the web, on a loopback address of their own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from assistant.tls import Certificate


@dataclass
class Page:
    """What is at a path."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    dribbles: bool = False
    """Comes byte by byte, each in time, and never to an end."""


@dataclass
class FileServer:
    address: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """The `Host` header and the path of each request."""
    closing: Event = field(default_factory=Event)

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def redirects(self, path: str, to: str) -> None:
        self.pages[path] = Page(status=302, headers={"Location": to})


@contextmanager
def file_server(
    host: str = "127.0.0.1", certificate: Certificate | None = None
) -> Iterator[FileServer]:
    """A server on a free port of that address; by https where it has a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files.asked.append((self.headers["Host"], self.path))
            page = files.pages.get(self.path, Page(b"nothing here", 404))
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page.content)
            while page.dribbles and not files.closing.wait(0.01):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer((host, 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    files = FileServer(f"{host}:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield files
    finally:
        files.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
