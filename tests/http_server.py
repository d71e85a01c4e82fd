"""A real HTTP server on 127.0.0.1 that can misbehave as asked."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behaviour:
    """How the server treats the next requests.

    Args:
        cut_after: bytes after which each of the next answers breaks off.
        statuses: status codes to answer with first, instead of the file.
        ranges: whether Range is understood.
        requests: (method, path, Range header, bytes sent) of every request so far.
    """

    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    requests: list[tuple[str, str, str, int]] = field(default_factory=list)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Behaviour]]:
    """Serve a folder; yields the address and the behaviour, which may be changed at any time."""
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(send_body=False)

        def do_GET(self) -> None:
            self.answer(send_body=True)

        def answer(self, send_body: bool) -> None:
            if behaviour.statuses:
                self.send_error(behaviour.statuses.pop(0))
                return
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            content, start = path.read_bytes(), 0
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if wanted and behaviour.ranges and self.headers.get("If-Range", tag) == tag:
                start = int(wanted[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", tag)
            self.end_headers()
            body = content[start:] if send_body else b""
            if send_body and behaviour.cut_after:
                body = body[: behaviour.cut_after.pop(0)]
            behaviour.requests.append((self.command, self.path, self.headers.get("Range", ""), len(body)))
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", behaviour
    finally:
        server.shutdown()
        server.server_close()
