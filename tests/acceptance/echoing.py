"""A provider that fails in every way, and tells whoever asks all the secrets that it was sent."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

STATUSES: Final = ("400", "401", "402", "403", "404", "409", "413", "422", "429", "500", "502", "503", "529")
WAYS: Final = (
    *STATUSES,
    "page",
    "text",
    "redirect",
    "garbage",
    "empty",
    "list",
    "in_answer",
    "in_stream",
    "torn",
    "head",
    "hang_up",
    "silent",
)
_OWN: Final = {"host", "content-length", "accept-encoding", "user-agent", "content-type", "connection", "accept"}


class Echo(http.server.ThreadingHTTPServer):
    """`requests` are the headers and bodies that it was sent. How it fails is the first part of the path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers who have hung up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Echo
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        sent = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((sent, body))
        told = "; ".join([f"{name}: {value}" for name, value in sent.items() if name not in _OWN])
        self._fail(self.path.split("/")[1], f"Incorrect API key provided. You sent: {told}", b'"stream":true' in body)

    def _fail(self, way: str, told: str, streamed: bool) -> None:
        error = json.dumps(_envelope(way, told)).encode()
        if way in STATUSES:
            self._answer(int(way), error)
        elif way == "page":
            self._answer(502, f"<html><title>Bad</title><body>{told}</body></html>".encode(), "text/html")
        elif way == "text":
            self._answer(500, told.encode(), "text/plain")
        elif way == "redirect":
            self._answer(307, b"", location=f"http://127.0.0.1:9/?told={told}")
        elif way == "garbage":
            self._answer(200, f"{{{told}".encode())
        elif way == "empty":
            self._answer(200, b"", note=told)
        elif way == "list":
            self._answer(200, json.dumps([told]).encode())
        elif way == "in_answer":
            self._answer(200, error)
        elif way == "in_stream":
            self._answer(200, b"event: error\ndata: " + error + b"\n\n", "text/event-stream")
        elif way == "torn":
            self._answer(200, f"data: {{{told}\n\n".encode(), "text/event-stream")
        else:
            self._break(way, told)

    def _break(self, way: str, told: str) -> None:
        self.close_connection = True
        if way == "head":
            self.wfile.write(f"HTTP/1.1 banana {told}\r\n\r\n".encode())
        elif way == "hang_up":
            self.wfile.write(f"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\nx-told: {told}\r\n\r\n{told}".encode())
        else:
            self.server.ended.wait(10)

    def _answer(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _envelope(way: str, told: str) -> dict[str, Any]:
    """Return an error as the wires of all providers have it."""
    status = int(way) if way in STATUSES else 401
    error = {"message": told, "type": "authentication_error", "code": status, "param": told, "status": told}
    return {"type": "error", "error": error | {"details": [{"reason": told}]}, "message": told}


@contextmanager
def echoing() -> Iterator[Echo]:
    """Run one for as long as the block lasts."""
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()
