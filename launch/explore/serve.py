"""`avc explore --serve`: the page at an address of this machine, and embeddings of what is dropped on it.

What other pages, other machines and other names could ask is refused before anything is read: only the loopback
address is listened on, the Host must be that address (DNS rebinding), uploads carry a token that only this page
holds (cross-site requests), and files come from a list made at the start (paths). Uploads are bounded in bytes and
time while they are read, and are decoded in a process of their own; nothing of them stays.
"""

from __future__ import annotations

import json
import mimetypes
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from launch.explore.moments import Embedder
from launch.explore.uploads import MAX_BYTES, Decoder
from launch.explore.write import POLICY, page, page_files

SECONDS_TO_SEND = 60  # an upload
SECONDS_OF_SILENCE = 10  # after which a connection is closed
CONNECTIONS = 32
WAITING = 4  # uploads at a time; one is decoded, the others wait
_BLOCK = 2**20

HEADERS = {
    "Content-Security-Policy": POLICY.format(connect="'self'") + "; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html; charset=utf-8", ".webm": "audio/webm"}


class Refused(Exception):
    """A request that is not answered: its status and the reason in words."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Server(ThreadingHTTPServer):
    """Serves an explorer's folder on 127.0.0.1; `url` is its address. Raises OSError where the port is taken."""

    daemon_threads = True

    def __init__(self, folder: Path, embedders: Sequence[Embedder], *, title: str, port: int, decoder: Decoder) -> None:
        self.token = secrets.token_urlsafe(24)
        self.page = page(title, token=self.token)
        self.embedders, self.decoder = embedders, decoder
        self.files = {f"/{path.relative_to(folder)}": path for path in page_files(folder)}
        self.uploads = threading.BoundedSemaphore(WAITING)
        self.network = threading.Lock()
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(("127.0.0.1", port), _Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away is no news."""

    def embed(self, path: Path) -> dict[str, Any]:
        """The kind of an uploaded file, "image" or "audio", and its vector in each run. Raises ValueError in words."""
        kind, array = self.decoder.decode(path)
        batch = torch.from_numpy(array.copy())[None]
        with self.network:
            embed = Embedder.picture if kind == "image" else Embedder.second
            vectors = [embed(each, batch)[0].tolist() for each in self.embedders]
        return {"kind": kind, "vectors": vectors}


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = SECONDS_OF_SILENCE
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        try:
            self._refuse_other_hosts()
            name = self.path.partition("?")[0]
            if name in ("/", "/index.html"):
                self._answer(HTTPStatus.OK, self.server.page, TYPES[".html"])
            elif name in self.server.files:
                self._send_file(self.server.files[name])
            else:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such file here")
        except Refused as error:
            self._refuse(error)

    def do_POST(self) -> None:
        try:
            self._refuse_other_hosts()
            if self.path != "/embed":
                raise Refused(HTTPStatus.NOT_FOUND, "uploads go to /embed")
            if not secrets.compare_digest(self.headers.get("X-Token", "").encode(), self.server.token.encode()):
                raise Refused(HTTPStatus.FORBIDDEN, "only the page that this server sent may send files to it")
            length = self._length()
            if not self.server.uploads.acquire(blocking=False):
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many uploads at once: try again")
            try:
                self._embed(length)
            finally:
                self.server.uploads.release()
        except Refused as error:
            self._refuse(error)

    def _embed(self, length: int) -> None:
        with tempfile.TemporaryFile() as file:  # without a name, so that nothing is left even after a kill
            until = time.monotonic() + SECONDS_TO_SEND
            left = length
            while left:
                try:
                    block = self.rfile.read1(min(left, _BLOCK))
                except TimeoutError:
                    block = b""
                if not block or time.monotonic() > until:
                    raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"it came too slowly, or stopped {left:,} bytes early")
                file.write(block)
                left -= len(block)
            file.flush()
            try:
                answer = self.server.embed(Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"))
            except ValueError as error:
                self._answer(HTTPStatus.UNPROCESSABLE_ENTITY, _json({"error": f"That cannot be used: {error}."}))
                return
        self._answer(HTTPStatus.OK, _json(answer))

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (text.isascii() and text.isdigit()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "an upload must say how many bytes it has")
        if len(text) > 12 or int(text) > MAX_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BYTES // 2**20} MB are taken")
        if not int(text):
            raise Refused(HTTPStatus.BAD_REQUEST, "the file is empty")
        return int(text)

    def _refuse_other_hosts(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, f"this server is {self.server.url}")

    def _send_file(self, path: Path) -> None:
        """The file, or the part of it that is asked for: players of sound seek by ranges."""
        content = path.read_bytes()  # a few hundred kB
        size = len(content)
        match = re.fullmatch(r"bytes=([0-9]{1,12})-([0-9]{0,12})", self.headers.get("Range", ""))
        start, last = (int(match[1]), int(match[2] or size)) if match else (0, size)
        asked = match is not None and start < size and start <= last
        start, end = (start, min(last + 1, size)) if asked else (0, size)
        kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        ranges = {"Accept-Ranges": "bytes"}
        if asked:
            ranges["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        status = HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK
        self._answer(status, content[start:end], kind, ranges)

    def _refuse(self, error: Refused) -> None:
        self.close_connection = True  # what was not read of the body is no next request
        self._answer(error.status, _json({"error": f"Refused: {error}."}), extra={"Connection": "close"})

    def _answer(
        self, status: HTTPStatus, content: bytes, kind: str = "application/json", extra: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            **HEADERS,
            **(extra or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def version_string(self) -> str:
        return "avc"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged: what they hold is the visitor's own."""


def serve(folder: Path, embedders: Sequence[Embedder], *, title: str, port: int) -> None:
    """Serve until Ctrl-C. Raises ValueError where the port is taken."""
    with Decoder() as decoder:
        try:
            server = Server(folder, embedders, title=title, port=port, decoder=decoder)
        except OSError as error:
            raise ValueError(f"--port {port} cannot be listened on: {error.strerror}; --port 0 takes any") from None
        with server:
            print(f"{server.url} (on this machine only; Ctrl-C ends it)", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()
