"""A provider that says exactly what a test gives it, byte by byte."""

import json
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

OPEN = "open"
"""In place of the last bytes: the connection stays open."""
Script = Mapping[str, list[bytes | str]]
"""What a model of a name answers; then the connection is closed."""

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def whole(body: Mapping[str, Any], *, status: int = 200) -> bytes:
    data = json.dumps(body).encode()
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(data)) + data


def answer(text: str = "pong", usage: object = None) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return whole({"id": "a", "model": "m", "choices": [choice], "usage": usage})


def event(text: str | None = None, *, choice: int = 0, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    said = {"id": "a", "model": "m", "choices": [{"index": choice, "delta": delta, "finish_reason": finish}]}
    return b"data: %s\n\n" % json.dumps(said).encode()


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        if not length:
            return
        name = json.loads(self.rfile.read(length))["model"]
        for piece in self.server.script[name]:  # type: ignore[attr-defined]
            if isinstance(piece, bytes):
                self.wfile.write(piece)
            else:
                self.rfile.read(1)  # until the gateway is gone


@contextmanager
def running_provider(script: Script) -> Iterator[str]:
    """Run the provider for as long as the block lasts, and return the base URL of its OpenAI wire."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.script = script  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()
