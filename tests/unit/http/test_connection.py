"""How a connection writes, seen from a transport that takes notes."""

import asyncio

from holdfast.http.connection import WRITE_SIZE, Connection


class Notes(asyncio.Transport):
    """Keeps what is written; asks to pause after every write while `full`."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.written: list[bytes] = []
        self.full = False
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))
        if self.full:
            self.protocol.pause_writing()

    def abort(self) -> None:
        self.aborted = True


def connection() -> tuple[Connection, Notes, list[Connection]]:
    idle: list[Connection] = []
    made = Connection("upstream.test:80", idle.append, lambda _: None)
    notes = Notes(made)
    made.connection_made(notes)
    return made, notes, idle


async def test_a_small_request_is_one_write() -> None:
    made, notes, _ = connection()
    made.send("POST", b"head", b"body")
    assert notes.written == [b"headbody"]


async def test_a_large_request_is_written_no_faster_than_it_is_taken() -> None:
    made, notes, _ = connection()
    body = bytes(range(256)) * (10 * WRITE_SIZE // 256) + b"rest"
    notes.full = True
    made.send("POST", b"head", body)
    for count in range(1, 13):  # the head and eleven parts of the body
        assert len(notes.written) == count
        made.resume_writing()
    assert b"".join(notes.written) == b"head" + body
    made.resume_writing()
    assert len(notes.written) == 12


async def test_an_answer_before_the_end_of_the_request_ends_the_connection() -> None:
    made, notes, idle = connection()
    notes.full = True
    response = made.send("POST", b"head", b"x" * 3 * WRITE_SIZE)
    made.data_received(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    assert await response.read(10, 1) == b"no"
    assert notes.aborted
    assert idle == []


async def test_a_connection_is_free_as_soon_as_its_response_is_whole() -> None:
    made, notes, idle = connection()
    response = made.send("POST", b"head", b"")
    made.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert idle == [made]
    made.data_received(b"unasked")
    assert notes.aborted
    assert await response.read(10, 1) == b"ok"
