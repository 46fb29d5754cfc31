"""The bodies of calls: many together in one compressed block, which costs far less than a row for each.

A block is a list in MessagePack, compressed by Zstandard: of each call `[request, reply]`, or with its ledger where its
answer was repaired, `[request, reply, ledger]`. The bodies of one block belong to one subject, or to nobody: what is
to be erased or sealed is whole blocks.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Reply, Request
from holdfast.events import Call, Repair

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODEC = "msgpack+zstd"
LEVEL = 1
"""The fastest: on chats, higher levels save a tenth of the room for twice the time."""
BLOCK_BYTES = 256 * 1024
"""What a block may hold before it is packed, unless one call's bodies are larger: reading one means unpacking all."""

_encode = msgspec.msgpack.Encoder().encode
_entries = msgspec.msgpack.Decoder(list[list[msgspec.Raw]]).decode
_ledger = msgspec.msgpack.Decoder(tuple[Repair, ...]).decode


class Packed(NamedTuple):
    """Blocks, and for each call the index of its block and its place there, None where it has no bodies."""

    blocks: Sequence[bytes]
    places: Sequence[tuple[int, int] | None]


class Packer:
    """Packs bodies into blocks. Not safe for threads. Compressing lets other threads run."""

    def __init__(self) -> None:
        self._compressor = zstd.ZstdCompressor(level=LEVEL)

    def pack(self, calls: Sequence[Call]) -> Packed:
        """Pack the bodies of calls that have any, with `?` for what no text can hold."""
        blocks: list[bytes] = []
        places: list[tuple[int, int] | None] = [None] * len(calls)
        for indexes in _by_subject(calls):
            pairs: list[msgspec.Raw] = []
            size = 0
            for index in indexes:
                pair = _encoded(calls[index])
                if pairs and size + len(pair) > BLOCK_BYTES:
                    blocks.append(self._block(pairs))
                    pairs, size = [], 0
                places[index] = len(blocks), len(pairs)
                pairs.append(msgspec.Raw(pair))
                size += len(pair)
            blocks.append(self._block(pairs))
        return Packed(blocks, places)

    def _block(self, pairs: Sequence[msgspec.Raw]) -> bytes:
        return self._compressor.compress(_encode(pairs), zstd.ZstdCompressor.FLUSH_FRAME)


def _by_subject(calls: Sequence[Call]) -> list[list[int]]:
    """Return the indexes of the calls that have bodies, those of a subject together."""
    indexes: dict[str | None, list[int]] = {}
    for index, call in enumerate(calls):
        if call.request is not None or call.reply is not None or call.ledger:
            indexes.setdefault(call.subject, []).append(index)
    return list(indexes.values())


def _encoded(call: Call) -> bytes:
    bodies = (call.request, call.reply, call.ledger) if call.ledger else (call.request, call.reply)
    try:
        return _encode(bodies)
    except (TypeError, ValueError, OverflowError):
        plain = msgspec.to_builtins(bodies, enc_hook=repr, str_keys=True)
        text = json.dumps(plain, ensure_ascii=False, default=repr).encode("utf-8", "replace")
        return _encode(json.loads(text, parse_int=_number))


def _number(digits: str) -> int | float:
    """Return an integer, as near as MessagePack can hold it."""
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else float(digits)


def unpack(kind: str, codec: str, data: bytes, place: int) -> Mapping[str, Any]:
    """Return the `request`, the `reply` and the `ledger` of the call at a place in a block.

    Raises:
        ValueError: the block is damaged, or not what this version writes.
    """
    if codec != CODEC:
        raise ValueError(f"its bodies are packed by {codec!r}")
    try:
        request, reply, *ledger = _entries(zstd.decompress(data))[place]
        return {
            "request": None if request == _NULL else _REQUESTS[kind](request),
            "reply": None if reply == _NULL else _REPLIES[kind](reply),
            "ledger": _ledger(ledger[0]) if ledger else (),
        }
    except (zstd.ZstdError, msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
        raise ValueError(str(error)) from error


_NULL = msgspec.Raw(b"\xc0")


def _embedding_request(raw: msgspec.Raw) -> EmbeddingRequest:
    """Decode texts or token ids, a union that msgspec does not take."""
    fields = msgspec.msgpack.decode(raw, type=dict[str, Any])
    input = tuple([tuple(item) if isinstance(item, list) else item for item in fields.pop("input")])
    return EmbeddingRequest(input=input, **fields)


_REQUESTS: Mapping[str, Callable[[msgspec.Raw], Request | EmbeddingRequest]] = {
    "chat": msgspec.msgpack.Decoder(Request).decode,
    "embeddings": _embedding_request,
    "distribution": msgspec.msgpack.Decoder(Request).decode,
}
_REPLIES: Mapping[str, Callable[[msgspec.Raw], Reply | EmbeddingReply]] = {
    "chat": msgspec.msgpack.Decoder(Reply).decode,
    "embeddings": msgspec.msgpack.Decoder(EmbeddingReply).decode,
    "distribution": msgspec.msgpack.Decoder(Reply).decode,
}
