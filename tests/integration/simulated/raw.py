"""A client without manners or a parser, that shows what is on the wire to the byte."""

import asyncio
import json
from typing import NamedTuple

CHAT = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


class Heard(NamedTuple):
    """What came, and how the connection ended: "fin", "reset", or "open" when nothing came any more."""

    data: bytes
    ending: str

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def payload(self) -> bytes:
        """The body, undone of chunked coding as far as it came."""
        rest = self.data.partition(b"\r\n\r\n")[2]
        if b"transfer-encoding: chunked" not in self.head:
            return rest
        body, at = [], 0
        while at < len(rest):
            begin = rest.index(b"\r\n", at) + 2
            size = int(rest[at:begin], 16)
            body.append(rest[begin : begin + size])
            at = begin + size + 2
        return b"".join(body)

    @property
    def terminated(self) -> bool:
        """Whether a chunked body came to its end."""
        return self.data.endswith(b"\r\n0\r\n\r\n")


def request(path: str, body: object, *headers: str) -> bytes:
    content = json.dumps(body, ensure_ascii=False).encode()
    lines = [f"POST {path} HTTP/1.1", "host: test", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(content)}", "", ""]).encode() + content


def chat(model: str, text: str = "", *, wire: str = "openai", stream: bool = True, close: bool = False) -> bytes:
    """Return a chat request on a wire; `close` asks for the connection's end after it."""
    headers = ["connection: close"] if close else []
    if wire == "google":
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        return request(f"/v1beta/models/{model}:{verb}", body, *headers)
    limits = {"max_tokens": 1000} if wire == "anthropic" else {}
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]} | limits
    return request(CHAT[wire], body, *headers)


async def send(port: int, data: bytes, quiet: float = 0.15) -> Heard:
    """Send bytes and listen until the connection ends, or nothing has come for `quiet` seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = bytearray()
    try:
        writer.write(data)
        while True:
            async with asyncio.timeout(quiet):
                piece = await reader.read(65536)
            if not piece:
                return Heard(bytes(heard), "fin")
            heard += piece
    except TimeoutError:
        return Heard(bytes(heard), "open")
    except ConnectionResetError:
        return Heard(bytes(heard), "reset")
    finally:
        writer.transport.abort()
