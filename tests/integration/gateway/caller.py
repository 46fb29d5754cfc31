"""A caller that writes HTTP byte by byte, and reads what comes back strictly."""

import json
import socket
import struct
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PATIENCE = 10.0


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """One connection to a gateway."""

    def __init__(self, url: str, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self._socket = socket.socket()
        self._socket.settimeout(PATIENCE)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect((parts.hostname, parts.port))
        self._read = b""

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._socket.sendall(piece)

    def get(self, path: str, *headers: str, method: str = "GET", version: str = "1.1") -> Response:
        self.send(head(f"{method} {path} HTTP/{version}", f"Host: {self.host}", *headers))
        return self.response(bodiless=method == "HEAD")

    def post(self, path: str, body: bytes, *headers: str) -> Response:
        self.send(self.request(path, body, *headers))
        return self.response()

    def request(self, path: str, body: bytes, *headers: str) -> bytes:
        return head(f"POST {path} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(body)}", *headers) + body

    def chunked(self, path: str, *headers: str) -> bytes:
        """Return the head of a chunked request."""
        return head(f"POST {path} HTTP/1.1", f"Host: {self.host}", "Transfer-Encoding: chunked", *headers)

    def response(self, *, bodiless: bool = False) -> Response:
        """Read one response to its end. Raises EOFError where the connection ends before it."""
        status, headers = self.head()
        if bodiless:
            return Response(status, headers, b"")
        if "content-length" in headers:
            assert "transfer-encoding" not in headers
            return Response(status, headers, self.exactly(int(headers["content-length"])))
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, self._chunks())
        return Response(status, headers, self.rest())

    def head(self) -> tuple[int, dict[str, str]]:
        lines = self.until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [line.split(": ", 1) for line in lines[1:]]
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names), f"a header twice: {names}"
        return int(status), {name.lower(): value for name, value in pairs}

    def until(self, end: bytes) -> bytes:
        while end not in self._read:
            self._more()
        cut = self._read.index(end) + len(end)
        found, self._read = self._read[:cut], self._read[cut:]
        return found

    def exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            self._more()
        found, self._read = self._read[:size], self._read[size:]
        return found

    def rest(self) -> bytes:
        """Return everything until the gateway closes the connection in an orderly way."""
        while True:
            try:
                self._more()
            except EOFError:
                found, self._read = self._read, b""
                return found

    def closed(self) -> bool:
        """Wait until the gateway closes the connection, in whatever way; whether nothing more came."""
        try:
            return self.rest() == b""
        except ConnectionError:
            return self._read == b""

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close so that the gateway sees a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.until(b"\r\n"), 16):
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"
        assert self.exactly(2) == b"\r\n"
        return body

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise EOFError(self._read)
        self._read += data


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
