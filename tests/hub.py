"""Test vocabulary: a stand-in for the Hugging Face hub, with one model, on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import orjson

MODEL = "tests/tiny-qwen2-audio"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it is asked, and how it behaves."""

    url: str
    breaks_off: str | None = None
    """The file of which, the first time, only the first half is sent."""
    ranges: list[tuple[str, str]] = field(default_factory=list)
    """Files that were asked for from some byte on, and that `Range` header."""


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    """A hub that offers the checkpoint in `folder` as MODEL."""

    class Handler(_Handler):
        files = folder

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, name="hub")
        thread.start()
        try:
            yield Handler.hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    files: ClassVar[Path]
    hub: ClassVar[Hub]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path.startswith(f"/api/models/{MODEL}/revision/"):
            self._send(200, orjson.dumps({"id": MODEL, "sha": COMMIT}), with_body=with_body)
        elif path == f"/api/models/{MODEL}/tree/{COMMIT}":
            self._send(200, orjson.dumps(self._tree()), with_body=with_body)
        elif path.startswith(f"/{MODEL}/resolve/") and (self.files / name).exists():
            self._send_file(name, with_body=with_body)
        else:
            self._send(404, b"", with_body=with_body)

    def _tree(self) -> list[dict[str, str | int]]:
        return [
            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
            for file in sorted(self.files.iterdir())
        ]

    def _send_file(self, name: str, *, with_body: bool) -> None:
        body = (self.files / name).read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        wanted = self.headers.get("Range")
        if with_body and wanted and wanted != "bytes=0-":
            self.hub.ranges.append((name, wanted))
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self._send(206, body[start:], with_body=True, headers=headers)
        elif with_body and self.hub.breaks_off == name:
            self.hub.breaks_off = None
            self._send(200, body, with_body=False, headers=headers)
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self._send(200, body, with_body=with_body, headers=headers)

    def _send(
        self, status: int, body: bytes, *, with_body: bool, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)
