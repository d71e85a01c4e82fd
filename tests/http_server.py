"""A real HTTP server on 127.0.0.1 that can misbehave as asked."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@dataclass
class Behaviour:
    """How the server treats the next requests.

    Args:
        cut_after: bytes after which each of the next answers breaks off.
        resets: whether it breaks off with a reset instead of a close.
        hangups: how many requests are reset before any answer.
        statuses: status codes to answer with first, instead of the file.
        retry_after: the Retry-After header of those answers.
        failing: status codes of paths that never answer otherwise.
        redirects: where paths lead to.
        editions: content of the file in the next answers; the last one stays.
        ranges: whether Range is understood.
        if_range: whether If-Range is.
        most_bytes: the most that an answer to a Range has.
        shift: how far behind the place that was asked for an answer to a Range begins.
        tags: whether answers have an ETag.
        headers: headers to send instead of the right ones; "" leaves one out.
        coding: "gzip" to compress whatever the client asks for.
        chunked: whether bodies are sent in chunks.
        endless: whether bodies are sent over and over again.
        drip_bytes: size of the pieces that a body is sent in; 0 for one piece.
        drip_s: pause before each piece.
        header_drip_s: pause after each byte of the headers.
        requests: (method, path, Range header, bytes sent) of every request so far.
    """

    cut_after: list[int] = field(default_factory=list)
    resets: bool = False
    hangups: int = 0
    statuses: list[int] = field(default_factory=list)
    retry_after: str = ""
    failing: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    editions: list[bytes] = field(default_factory=list)
    ranges: bool = True
    if_range: bool = True
    most_bytes: int = 1 << 60
    shift: int = 0
    tags: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    coding: str = ""
    chunked: bool = False
    endless: bool = False
    drip_bytes: int = 0
    drip_s: float = 0.0
    header_drip_s: float = 0.0
    requests: list[tuple[str, str, str, int]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Answers as `behaviour` says."""

    protocol_version = "HTTP/1.1"
    folder: Path
    behaviour: Behaviour

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        # A client may have enough at any time.
        with contextlib.suppress(ConnectionError):
            self.answer()

    def answer(self) -> None:
        self.close_connection = True
        if self.behaviour.hangups:
            self.behaviour.hangups -= 1
            return self.reset()
        content = self.content()
        if self.path in self.behaviour.redirects:
            self.send_response(302)
            self.send_headers({"Location": self.behaviour.redirects[self.path], "Content-Length": "0"})
        elif self.behaviour.statuses or self.path in self.behaviour.failing or content is None:
            first = self.behaviour.statuses.pop(0) if self.behaviour.statuses else None
            self.send_response(first or self.behaviour.failing.get(self.path, 404))
            self.send_headers({"Retry-After": self.behaviour.retry_after, "Content-Length": "0"})
        else:
            self.send_file(content)

    def content(self) -> bytes | None:
        editions, path = self.behaviour.editions, self.folder / unquote(self.path).lstrip("/")
        if editions:
            return editions.pop(0) if len(editions) > 1 else editions[0]
        return path.read_bytes() if path.is_file() else None

    def send_file(self, content: bytes) -> None:
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        asked, current = self.headers.get("Range", ""), self.headers.get("If-Range", tag) == tag
        if self.behaviour.coding:
            content = gzip.compress(content, mtime=0)
        wanted = re.fullmatch(r"bytes=(\d+)-", asked)
        headers = {"ETag": tag if self.behaviour.tags else "", "Content-Encoding": self.behaviour.coding}
        body = content
        if wanted and self.behaviour.ranges and (current or not self.behaviour.if_range):
            start = int(wanted[1]) + self.behaviour.shift
            body = content[start : start + self.behaviour.most_bytes]
            self.send_response(206 if body else 416)
            place = f"{start}-{start + len(body) - 1}" if body else "*"
            headers["Content-Range"] = f"bytes {place}/{len(content)}"
        else:
            self.send_response(200)
        headers |= {"Transfer-Encoding": "chunked"} if self.behaviour.chunked else {}
        headers |= {"Content-Length": "" if self.behaviour.chunked else str(len(body))}
        self.send_headers({**headers, **self.behaviour.headers})
        is_cut = self.command == "GET" and bool(self.behaviour.cut_after)
        if is_cut:
            body = body[: self.behaviour.cut_after.pop(0)]
        sent = len(body) if self.command == "GET" else 0
        self.behaviour.requests.append((self.command, self.path, asked, sent))
        if self.command == "GET":
            self.send_body(body, is_cut)

    def send_headers(self, headers: dict[str, str]) -> None:
        for name, value in {**headers, "Connection": "close"}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def flush_headers(self) -> None:
        if not self.behaviour.header_drip_s:
            return super().flush_headers()
        for byte in b"".join(self._headers_buffer):
            self.wfile.write(bytes([byte]))
            time.sleep(self.behaviour.header_drip_s)
        self._headers_buffer = []

    def send_body(self, body: bytes, is_cut: bool) -> None:
        """Send in pieces what is not cut off."""
        while True:
            self.send_pieces(body)
            if not self.behaviour.endless:
                break
        if self.behaviour.chunked and not is_cut:
            self.wfile.write(b"0\r\n\r\n")
        if is_cut and self.behaviour.resets:
            self.reset()

    def send_pieces(self, body: bytes) -> None:
        size = self.behaviour.drip_bytes or max(1, len(body))
        for start in range(0, len(body), size):
            time.sleep(self.behaviour.drip_s)
            piece = body[start : start + size]
            framed = b"%x\r\n%b\r\n" % (len(piece), piece)
            self.wfile.write(framed if self.behaviour.chunked else piece)

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Behaviour]]:
    """Serve a folder; yields the address and the behaviour, which may be changed at any time."""
    behaviour = Behaviour()
    handler = type("OneHandler", (Handler,), {"folder": folder, "behaviour": behaviour})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", behaviour
    finally:
        server.shutdown()
        server.server_close()
