"""A server that answers byte by byte what a test scripts, on a real socket."""

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Peer:
    """The server's side of one connection."""

    def __init__(self, server: "RawServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = len(server.peers)
        self.sent = 0
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """Read a whole request and return it."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return head + await self._reader.readexactly(int(length[1]) if length else 0)

    async def head(self) -> bytes:
        """Read the head of a request and leave its body."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def read(self, size: int) -> bytes:
        return await self._reader.readexactly(size)

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, each in a packet of its own as far as the kernel allows."""
        for piece in pieces:
            if self._writer.is_closing():
                raise ConnectionResetError
            self._writer.write(piece)
            await self._writer.drain()
            self.sent += len(piece)
            await asyncio.sleep(0)

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Close so that the other side sees a reset."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the other side has closed."""
        with suppress(ConnectionError, ssl.SSLError):
            while await self._reader.read(65536):
                pass


Script = Callable[[Peer], Awaitable[None]]


class RawServer:
    """Runs a script for every connection that it accepts."""

    def __init__(self, script: Script, scheme: str) -> None:
        self.peers: list[Peer] = []
        self.scheme = scheme
        self.host = "127.0.0.1"
        self.port = 0
        self.failure: Exception | None = None
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/v1/chat"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        try:
            await self._script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        except Exception as error:  # noqa: BLE001  raised by `serving`
            self.failure = error
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    async def stop(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Serve until the end of the block, where what failed in a script is raised."""
    server = RawServer(script, "https" if tls else "http")
    listener = await asyncio.start_server(server.serve, host, 0, ssl=tls, backlog=512)
    server.host = f"[{host}]" if ":" in host else host
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
    if server.failure is not None:
        raise server.failure


def ok(body: bytes = b"hello", *headers: bytes) -> bytes:
    """A response with a Content-Length."""
    lines = b"".join([header + b"\r\n" for header in headers])
    return b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
