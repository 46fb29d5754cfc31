"""The bodies of calls: many together in one compressed block, which costs far less than a row for each.

A block is a list in MessagePack, compressed by Zstandard: of each call `[request, reply]`, or with its ledger where its
answer was repaired, `[request, reply, ledger]`. The bodies of one block belong to one owner, a subject or else a
tenant, and to one feature: what is to be erased, sealed or expired is whole blocks.

A sealed block is compressed first. It also takes the messages of a call and its attempts, which may hold the caller's
words: `[request, reply, ledger, message, [message of each attempt]]`.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Literal, NamedTuple

import msgspec

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Reply, Request
from holdfast.events import Call, Repair
from holdfast.log.base import speaks
from holdfast.privacy.sealing.sealer import Destroyed, Sealer, owner_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODEC = "msgpack+zstd"
SEALED = "msgpack+zstd+aesgcm"
LEVEL = 1
"""The fastest: on chats, higher levels save a tenth of the room for twice the time."""
BLOCK_BYTES = 256 * 1024
"""What a block may hold before it is packed, unless one call's bodies are larger: reading one means unpacking all."""

Entry = Sequence[msgspec.Raw]
"""The bodies of one call, encoded."""
Withheld = Literal["erased", "sealed"]

_encode = msgspec.msgpack.Encoder().encode
_entries = msgspec.msgpack.Decoder(list[list[msgspec.Raw]]).decode
_ledger = msgspec.msgpack.Decoder(tuple[Repair, ...]).decode
_message = msgspec.msgpack.Decoder(str | None).decode
_messages = msgspec.msgpack.Decoder(list[str | None]).decode


class Block(NamedTuple):
    """Bodies of one owner, compressed."""

    owner: str
    data: bytes


class Packed(NamedTuple):
    """Blocks, and for each call the index of its block and its place there, None where it has no bodies.

    `spoken` are the indexes of the calls whose messages are in there.
    """

    blocks: Sequence[Block]
    places: Sequence[tuple[int, int] | None]
    spoken: Set[int] = frozenset()


class Packer:
    """Packs bodies into blocks. Not safe for threads. Compressing lets other threads run."""

    def __init__(self, *, messages: bool = False) -> None:
        self._compressor = zstd.ZstdCompressor(level=LEVEL)
        self._messages = messages

    def pack(self, calls: Sequence[Call]) -> Packed:
        """Pack the bodies of calls that have any, and their `messages`, with `?` for what no text can hold."""
        blocks: list[Block] = []
        places: list[tuple[int, int] | None] = [None] * len(calls)
        spoken = {index for index, call in enumerate(calls) if speaks(call)} if self._messages else frozenset[int]()
        for owner, indexes in _by_owner(calls, spoken):
            entries: list[msgspec.Raw] = []
            size = 0
            for index in indexes:
                entry = _with_messages(calls[index]) if index in spoken else _encoded(calls[index])
                if entries and size + len(entry) > BLOCK_BYTES:
                    blocks.append(Block(owner, self._block(entries)))
                    entries, size = [], 0
                places[index] = len(blocks), len(entries)
                entries.append(msgspec.Raw(entry))
                size += len(entry)
            blocks.append(Block(owner, self._block(entries)))
        return Packed(blocks, places, spoken)

    def replace(self, data: bytes | None, place: int, call: Call) -> bytes:
        """Return a block with the messages that a call has now in the place of its former ones.

        Without a block, return one for them alone. Raises ValueError where the block is damaged.
        """
        entries = [] if data is None else entries_of(data)
        message, messages = call.message, [attempt.message for attempt in call.attempts]
        if data is None:
            return self._block([msgspec.Raw(_packed((None, None, (), message, messages)))])
        request, reply, *rest = entries[place]
        ledger = rest[0] if rest else _NO_LEDGER
        entry = (request, reply, ledger, msgspec.Raw(_packed(message)), msgspec.Raw(_packed(messages)))
        replaced: list[Any] = [*entries[:place], entry, *entries[place + 1 :]]
        return self._block(replaced)

    def _block(self, entries: Sequence[Any]) -> bytes:
        return self._compressor.compress(_encode(entries), zstd.ZstdCompressor.FLUSH_FRAME)


def _by_owner(calls: Sequence[Call], spoken: Set[int]) -> list[tuple[str, list[int]]]:
    """Return the indexes of the calls that have bodies or have `spoken`, those of an owner and a feature together."""
    indexes: dict[tuple[str | None, str | None, str | None], list[int]] = {}
    for index, call in enumerate(calls):
        if call.request is not None or call.reply is not None or call.ledger or index in spoken:
            indexes.setdefault((call.subject, call.tenant, call.feature), []).append(index)
    return [(owner_of(subject, tenant), found) for (subject, tenant, _), found in indexes.items()]


def _with_messages(call: Call) -> bytes:
    messages = [attempt.message for attempt in call.attempts]
    return _packed((call.request, call.reply, call.ledger, call.message, messages))


def _encoded(call: Call) -> bytes:
    return _packed((call.request, call.reply, call.ledger) if call.ledger else (call.request, call.reply))


def _packed(value: object) -> bytes:
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError):
        plain = msgspec.to_builtins(value, enc_hook=repr, str_keys=True)
        text = json.dumps(plain, ensure_ascii=False, default=repr).encode("utf-8", "replace")
        return _encode(json.loads(text, parse_int=_number))


def _number(digits: str) -> int | float:
    """Return an integer, as near as MessagePack can hold it."""
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else float(digits)


# --- sealing ----------------------------------------------------------------------------------------------------------


def seal(sealer: Sealer | None, number: int, block: Block) -> tuple[int, str, bytes]:
    """Return the row of a block. What is sealed can be opened under its number alone."""
    if sealer is None:
        return number, CODEC, block.data
    return number, SEALED, sealer.seal(block.owner, block.data, _context(number))


def unseal(sealer: Sealer | None, number: int, owner: str, codec: str, data: bytes) -> bytes | Withheld:
    """Return what was packed; or why it can't be had.

    Raises:
        ValueError: the codec is not one of this version.
        PrivacyError: it was altered, or the keys can't be used.
    """
    if codec == CODEC:
        return data
    if codec != SEALED:
        raise ValueError(f"its bodies are packed by {codec!r}")
    if sealer is None:
        return "sealed"
    try:
        return sealer.open(owner, data, _context(number))
    except Destroyed:
        return "erased"


def _context(number: int) -> bytes:
    return b"log/body_blocks/%d" % number


# --- reading ----------------------------------------------------------------------------------------------------------


def entries_of(data: bytes) -> Sequence[Entry]:
    """Return what a block holds. Raises ValueError: it is damaged."""
    try:
        return _entries(zstd.decompress(data))
    except (zstd.ZstdError, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from error


class Words(NamedTuple):
    """All that was said in a call. `messages` are those of its attempts, () where they are not kept here."""

    request: Request | EmbeddingRequest | None
    reply: Reply | EmbeddingReply | None
    ledger: tuple[Repair, ...] = ()
    message: str | None = None
    messages: Sequence[str | None] = ()


def words(kind: str, entry: Entry) -> Words:
    """Return the bodies of a call. Raises ValueError: they are not what this version writes."""
    try:
        request, reply, *rest = entry
        return Words(
            None if request == _NULL else _REQUESTS[kind](request),
            None if reply == _NULL else _REPLIES[kind](reply),
            *[decode(raw) for decode, raw in zip(_REST, rest, strict=False)],
        )
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
        raise ValueError(str(error)) from error


_REST: Sequence[Callable[[msgspec.Raw], Any]] = (_ledger, _message, _messages)
_NO_LEDGER = msgspec.Raw(b"\x90")
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
