"""The bodies of calls: many together in one compressed block, which costs far less than a row for each.

A block is lines of JSON, `[request, reply]` for each call, compressed by Zstandard. The bodies of one block belong to
one subject, or to nobody: what is to be erased or sealed is whole blocks.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Reply, Request
from holdfast.events import Call

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODEC = "zstd"
LEVEL = 1
"""The fastest: on chats, higher levels save a tenth of the room for twice the time."""
BLOCK_BYTES = 256 * 1024
"""A block that has grown beyond it is closed, so that reading one call never means unpacking much."""

_encode_into = msgspec.json.Encoder().encode_into
_pair = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw]).decode


class Packed(NamedTuple):
    """Blocks, and for each call the index of its block and its line there, None where it has no bodies."""

    blocks: Sequence[bytes]
    places: Sequence[tuple[int, int] | None]


class Packer:
    """Packs bodies into blocks. Not safe for threads. Compressing lets other threads run."""

    def __init__(self) -> None:
        self._compressor = zstd.ZstdCompressor(level=LEVEL)

    def pack(self, calls: Sequence[Call]) -> Packed:
        """Pack the bodies of calls that have any, with `?` for what no JSON text can hold."""
        blocks: list[bytes] = []
        places: list[tuple[int, int] | None] = [None] * len(calls)
        for indexes in _by_subject(calls):
            lines, text = 0, bytearray()
            for index in indexes:
                if len(text) > BLOCK_BYTES:
                    blocks.append(self._compressor.compress(text, zstd.ZstdCompressor.FLUSH_FRAME))
                    lines, text = 0, bytearray()
                places[index] = len(blocks), lines
                _add_line(text, calls[index])
                lines += 1
            blocks.append(self._compressor.compress(text, zstd.ZstdCompressor.FLUSH_FRAME))
        return Packed(blocks, places)


def _by_subject(calls: Sequence[Call]) -> list[list[int]]:
    """Return the indexes of the calls that have bodies, those of a subject together."""
    indexes: dict[str | None, list[int]] = {}
    for index, call in enumerate(calls):
        if call.request is not None or call.reply is not None:
            indexes.setdefault(call.subject, []).append(index)
    return list(indexes.values())


def _add_line(text: bytearray, call: Call) -> None:
    start = len(text)
    try:
        _encode_into((call.request, call.reply), text, -1)
    except (TypeError, ValueError, OverflowError):
        plain = msgspec.to_builtins((call.request, call.reply), enc_hook=repr, str_keys=True)
        text[start:] = json.dumps(plain, ensure_ascii=False, default=repr).encode("utf-8", "replace")
    text += b"\n"


def unpack(kind: str, codec: str, data: bytes, line: int) -> Mapping[str, Any]:
    """Return the `request` and the `reply` of the call at a line of a block.

    Raises:
        ValueError: the block is damaged, or not what this version writes.
    """
    if codec != CODEC:
        raise ValueError(f"its bodies are packed by {codec!r}")
    try:
        request, reply = _pair(zstd.decompress(data).split(b"\n")[line])
        return {
            "request": None if request == _NULL else _REQUESTS[kind](request),
            "reply": None if reply == _NULL else _REPLIES[kind](reply),
        }
    except (zstd.ZstdError, msgspec.MsgspecError, LookupError, TypeError) as error:
        raise ValueError(str(error)) from error


_NULL = msgspec.Raw(b"null")


def _embedding_request(text: msgspec.Raw) -> EmbeddingRequest:
    """Decode texts or token ids, a union that msgspec does not take."""
    fields = msgspec.json.decode(text, type=dict[str, Any])
    input = tuple([tuple(item) if isinstance(item, list) else item for item in fields.pop("input")])
    return EmbeddingRequest(input=input, **fields)


_REQUESTS: Mapping[str, Callable[[msgspec.Raw], Request | EmbeddingRequest]] = {
    "chat": msgspec.json.Decoder(Request).decode,
    "embeddings": _embedding_request,
}
_REPLIES: Mapping[str, Callable[[msgspec.Raw], Reply | EmbeddingReply]] = {
    "chat": msgspec.json.Decoder(Reply).decode,
    "embeddings": msgspec.json.Decoder(EmbeddingReply).decode,
}
