"""Entries of the audit trail and its heads as bytes: each entry names the hash of the one before it.

An entry is a line of JSON, its last member the SHA-256 of all bytes before that. A head says where the trail ended when
it was written, with the last entry in full; it is hashed in the same way, and signed where the installation can.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from holdfast.privacy import signing
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.signing import Signer

ZERO = "0" * 64
"""What stands for the hash before the first entry."""
LARGEST = 2**20
"""Bytes of a line: entries are shorter by half."""
SIGNED, UNSIGNED, RESUMED = "audit.signed", "audit.unsigned", "audit.resumed"
"""What the trail says of itself: heads are signed from here on, or no more; it went on after it was damaged."""
SUCCEEDED = "audit.succeeded"
"""Heads are signed with another key from here on, and the one before vouches for it."""

_ENTRY = re.compile(rb'(?P<body>\{"n":.*),"hash":"(?P<hash>[0-9a-f]{64})"\}', re.DOTALL)
_HEAD = re.compile(
    rb'(?P<body>\{"entries":.*),"hash":"(?P<hash>[0-9a-f]{64})","signature":(?:null|"(?P<signature>[0-9a-f]{128})")\}\n',
    re.DOTALL,
)
_CONTEXT = b"holdfast audit head\n"
_SUCCESSION = "holdfast audit key {} after {}\n"

_LONGEST_TEXT = 200
_MOST_ITEMS = 100
_LONGEST_READ = 1000
"""Of a longer text no more is looked at."""
_PRIVATE = re.compile(
    r"(^|_)(api_?keys?|authorization|body|bodies|cookies?|credentials?|messages?|passwords?|prompts?|reply|replies"
    r"|request|secrets?|texts?|token)$"
)
_TOKEN = re.compile(r"(hf_[0-9A-Za-z]+)_[0-9A-Za-z_-]+|\b(Bearer +|Basic +|sk-)[^\s,;]+")


class Damaged(ValueError):
    """A line is not what was written. `message` says how it can be told."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that was done. `at` is ISO 8601 in UTC, to the microsecond.

    `actor` is who did it: "account:anna", "key:hf_ab12cd34", "os:root", "gateway". `prev` is the hash of the entry
    before.
    """

    n: int
    at: str
    actor: str
    action: str
    details: dict[str, Any]
    prev: str
    hash: str = ""


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the trail ended: after `entries`, `size` bytes in all, the last one `line`, without its line feed."""

    entries: int
    size: int
    line: str
    key: str | None
    """The public key that it is signed with, None for a head without a signature."""
    hash: str = ""
    signature: str = ""

    @property
    def last(self) -> Entry:
        """The entry that `line` holds."""
        return read_entry(self.line.encode())

    def check(self) -> Literal["signed", "forged", "unsigned", "unknown"]:
        """Return what is to be said of the signature; it is unknown where `cryptography` is not installed."""
        if self.key is None:
            return "unsigned"
        if not ciphers.available():
            return "unknown"
        signed = signing.verify(self.key, bytes.fromhex(self.signature), _CONTEXT + _head_body(self))
        return "signed" if signed else "forged"


def entry_line(n: int, at: float, actor: str, action: str, details: Mapping[str, Any], prev: str) -> bytes:
    """Return an entry as the line that holds it, without its line feed. `at` is in seconds since 1970 UTC."""
    entry = {
        "n": n,
        "at": iso(at),
        "actor": _text(actor),
        "action": action,
        "details": {name: _detail(name, value) for name, value in details.items()},
        "prev": prev,
    }
    body = msgspec.json.encode(entry)[:-1]
    if len(body) > LARGEST // 2:
        raise ValueError(f"{action}: an entry of the audit trail has at most {LARGEST // 2} bytes")
    return b'%b,"hash":"%b"}' % (body, _digest(body))


def succession(signer: Signer, successor: str, prev: str) -> dict[str, str]:
    """Return the details of an entry that names the next public key, signed with the present one, for one place."""
    signature = signer.sign(_SUCCESSION.format(successor, prev).encode()).hex()
    return {"key": successor, "by": signer.public, "signature": signature}


def check_succession(entry: Entry) -> Literal["signed", "forged", "unknown"]:
    """Return what is to be said of the signature; it is unknown where `cryptography` is not installed."""
    if not ciphers.available():
        return "unknown"
    key, by, signature = (str(entry.details.get(name)) for name in ("key", "by", "signature"))
    try:
        signed = signing.verify(by, bytes.fromhex(signature), _SUCCESSION.format(key, entry.prev).encode())
    except ValueError:
        return "forged"
    return "signed" if signed else "forged"


def read_entry(line: bytes) -> Entry:
    """Return the entry of a line. Raises Damaged."""
    found = _ENTRY.fullmatch(line)
    if found is None:
        raise Damaged("it is no entry")
    if _digest(found["body"]) != found["hash"]:
        raise Damaged("it was changed: its hash is another")
    try:
        return _decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Damaged(f"it is no entry: {error}") from error


def head_line(entries: int, size: int, line: bytes, signer: Signer | None) -> bytes:
    """Return a head as the line that holds it, signed if there is a signer."""
    head = Head(entries=entries, size=size, line=line.decode(), key=signer.public if signer else None)
    body = _head_body(head)
    signature = b'"%b"' % signer.sign(_CONTEXT + body).hex().encode() if signer else b"null"
    return b'%b,"hash":"%b","signature":%b}\n' % (body, _digest(body), signature)


def read_head(raw: bytes) -> Head:
    """Return the head of a line. Its signature is not checked. Raises Damaged."""
    found = _HEAD.fullmatch(raw)
    if found is None:
        raise Damaged("it is no head")
    if _digest(found["body"]) != found["hash"]:
        raise Damaged("it was changed: its hash is another")
    try:
        head = _decode_head(found["body"] + b"}")
        last = head.last
    except (ValueError, RecursionError) as error:
        raise Damaged(f"it is no head: {error}") from error
    signature = (found["signature"] or b"").decode()
    if _head_body(head) != found["body"]:
        raise Damaged("it is not written as heads are")
    if last.n != head.entries or (head.key is None) != (not signature):
        raise Damaged("it contradicts itself")
    return msgspec.structs.replace(head, hash=found["hash"].decode(), signature=signature)


def iso(at: float) -> str:
    """Return a time in seconds since 1970 UTC as the trail writes it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


_decode = msgspec.json.Decoder(Entry).decode
_decode_head = msgspec.json.Decoder(Head).decode


def _head_body(head: Head) -> bytes:
    body = {"entries": head.entries, "size": head.size, "line": head.line, "key": head.key}
    return msgspec.json.encode(body)[:-1]


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


# --- what an entry may say --------------------------------------------------------------------------------------------


def _detail(name: str, value: object) -> Any:
    if _PRIVATE.search(name):
        raise ValueError(f"the audit trail holds no {name}: it can't be erased from there")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Sequence) and all(isinstance(item, str) for item in value):
        return [_text(item) for item in value[:_MOST_ITEMS]]
    raise TypeError(f"{name}: the audit trail holds texts, numbers and lists of texts, not {type(value).__name__}")


def _text(text: str) -> str:
    """Return a text as it may stand in an entry: not long, and without what looks like a secret."""
    text = _TOKEN.sub(_blank, text[:_LONGEST_READ])
    text = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
    return text.encode("utf-8", "replace").decode()


def _blank(token: re.Match[str]) -> str:
    return f"{token[1]}_***" if token[1] else f"{token[2]}***"
