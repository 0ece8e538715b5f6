"""An HTTP server on localhost for one file, that can break off, redirect and announce hashes."""

from __future__ import annotations

import hashlib
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class LocalServer(ThreadingHTTPServer):
    """Serves `body` at /archive.tar.gz; attributes may be changed between requests."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = body
        self.etag: str | None = '"1"'
        self.linked_etag: str | None = None  # sent on a redirect, as the hub does
        self.break_after: list[int] = []  # bytes sent before the connection drops, per request
        self.statuses: list[int] = []  # answered instead, per request
        self.requests: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/archive.tar.gz"

    def announce(self, body: bytes) -> None:
        self.linked_etag = f'"{hashlib.sha256(body).hexdigest()}"'

    def __enter__(self) -> LocalServer:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer

    def do_GET(self) -> None:
        server = self.server
        if server.linked_etag and self.path == "/archive.tar.gz":
            self.send_response(302)
            self.send_header("Location", "/storage")
            self.send_header("X-Linked-ETag", server.linked_etag)
            self.end_headers()
            return
        server.requests.append({key.lower(): value for key, value in self.headers.items()})
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        body, first = server.body, 0
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if span and self.headers.get("If-Range") == server.etag:
            first = int(span[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - first))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        last = first + server.break_after.pop(0) if server.break_after else len(body)
        self.wfile.write(body[first:last])

    def log_message(self, *args: object) -> None:
        pass
