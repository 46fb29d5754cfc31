"""Server-sent events (WHATWG HTML, section 9.2), parsed from bytes cut anywhere."""

import msgspec


class ServerSentEvent(msgspec.Struct, frozen=True):
    """`data` is the data lines joined by newlines, undecoded; `name` is empty where the stream names none."""

    data: bytes
    name: bytes = b""
