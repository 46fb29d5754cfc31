"""Events as rows of the database, and back."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Reply, Request, Usage
from holdfast.errors import LogError
from holdfast.events import Attempt, Call, Snapshot

Row = tuple[object, ...]

USAGE = Usage.__struct_fields__
PROFILE = (
    "kind",
    "wire",
    "name",
    "feature",
    "model",
    "provider",
    "served_model",
    "fingerprint",
    "config",
    "outcome",
    "status",
    "finish",
    "stream",
    "store",
)
"""What many calls have in common: it is stored once, and a call holds its number."""
_COMMON = ("id", "at_us", "duration_us", "first_token_us", "cost_nanousd")
_RARE = ("error", "message", "session", "subject")
CALL = (*PROFILE, *_COMMON, *_RARE)
ATTEMPT = (
    "model",
    "provider",
    "started_us",
    "duration_us",
    "first_token_us",
    "served_model",
    "provider_status",
    "error",
    "message",
    "cost_nanousd",
)
_ONLY = ("started_us", "duration_us", "first_token_us", "provider_status")
"""What the only attempt of a call knows beyond its call."""
_SHARED = ("model", "provider", "served_model", "cost_nanousd")
COMMON = ("seq", "profile", *_COMMON, *USAGE, *[f"only_{name}" for name in _ONLY])
RARE = (*_RARE, "tags")
OTHERS = ("call", "n", *ATTEMPT, *USAGE)
BODIES = ("call", "request", "reply")
SNAPSHOTS = ("hash", "at_us", "files")
"""The columns of the tables, in the order of the rows made here."""

NO_RARE = (None,) * len(RARE)
_NO_USAGE = (None,) * len(USAGE)
_NO_ONLY = (None,) * len(_ONLY)
_INT64 = range(-(2**63), 2**63)
_profile, _common, _rare, _attempt, _usage, _only = [
    attrgetter(*names) for names in (PROFILE, _COMMON, _RARE, ATTEMPT, USAGE, _ONLY)
]
_shared = attrgetter(*_SHARED, "usage")
_encode_into = msgspec.json.Encoder().encode_into
_texts = msgspec.json.Decoder(dict[str, str]).decode


# --- to rows ----------------------------------------------------------------------------------------------------------


def profile_row(call: Call) -> Row:
    row: Row = _profile(call)
    return row


def common_row(seq: int, profile: int, call: Call, told: bool) -> Row:
    """Return the columns that most calls fill. `profile` is the number of theirs, `told` what `is_told` says."""
    usage = _NO_USAGE if call.usage is None else _usage(call.usage)
    only = _only(call.attempts[0]) if told else _NO_ONLY
    return (seq, profile, *_common(call), *usage, *only)


def rare_row(call: Call) -> Row:
    """Return the columns that most calls leave empty: `NO_RARE` then."""
    return (*_rare(call), json_text(call.tags) if call.tags else None)


def is_told(call: Call) -> bool:
    """Whether the row of a call tells all about its attempts: there is one, which worked and is what the call tells."""
    if len(call.attempts) != 1:
        return False
    attempt = call.attempts[0]
    return attempt.error is None and attempt.message is None and bool(_shared(attempt) == _shared(call))


def attempt_row(seq: int, n: int, attempt: Attempt) -> Row:
    return (seq, n, *_attempt(attempt), *(_NO_USAGE if attempt.usage is None else _usage(attempt.usage)))


def body_row(seq: int, call: Call) -> Row:
    request, reply = call.request, call.reply
    return (seq, None if request is None else _json(request), None if reply is None else _json(reply))


def snapshot_row(snapshot: Snapshot) -> Row:
    return (snapshot.hash, snapshot.at_us, json_text(snapshot.files))


def json_text(value: object) -> str:
    """Encode a value, with `?` for what no JSON text can hold: lone surrogates, values that are not JSON."""
    return _json(value).decode()


def _json(value: object) -> bytearray:
    """Encode a value as UTF-8, into the one type of bytes that the database takes without a conversion."""
    text = bytearray()
    try:
        _encode_into(value, text)
    except (TypeError, ValueError, OverflowError):
        plain = msgspec.to_builtins(value, enc_hook=repr, str_keys=True)
        return bytearray(json.dumps(plain, ensure_ascii=False, default=repr).encode("utf-8", "replace"))
    return text


def storable(row: Row) -> Row:
    """Return a row with `?` for lone surrogates, and without integers that the database can't hold."""
    return tuple([_storable(value) for value in row])


def _storable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return None if isinstance(value, int) and value not in _INT64 else value


# --- from rows --------------------------------------------------------------------------------------------------------


def call_of(row: sqlite3.Row, attempts: Sequence[sqlite3.Row], body: sqlite3.Row | None = None) -> Call:
    """Put a call together again, with those `attempts` that its row does not tell.

    Raises:
        LogError: its JSON is not what this version writes.
    """
    fields: dict[str, Any] = {name: row[name] for name in CALL}
    fields["stream"] = bool(row["stream"])
    try:
        if row["tags"] is not None:
            fields["tags"] = _texts(row["tags"])
        if body is not None:
            fields.update(_bodies(row["kind"], body))
    except (msgspec.MsgspecError, TypeError, KeyError) as error:
        raise LogError(f"The log holds call {row['id']} in a form that this version can't read: {error}") from error
    told = () if row["only_started_us"] is None else (_only_attempt(row),)
    others = [_attempt_of(attempt) for attempt in attempts]
    return Call(**fields, usage=_usage_of(row), attempts=(*told, *others))


def snapshot_of(row: sqlite3.Row) -> Snapshot:
    return Snapshot(hash=row["hash"], at_us=row["at_us"], files=_texts(row["files"]))


def _bodies(kind: str, body: sqlite3.Row) -> Mapping[str, Any]:
    request, reply = body["request"], body["reply"]
    return {
        "request": None if request is None else _REQUESTS[kind](request),
        "reply": None if reply is None else _REPLIES[kind](reply),
    }


def _embedding_request(text: str) -> EmbeddingRequest:
    """Decode texts or token ids, a union that msgspec does not take."""
    fields = msgspec.json.decode(text, type=dict[str, Any])
    input = tuple([tuple(item) if isinstance(item, list) else item for item in fields.pop("input")])
    return EmbeddingRequest(input=input, **fields)


_REQUESTS: Mapping[str, Callable[[str], Request | EmbeddingRequest]] = {
    "chat": msgspec.json.Decoder(Request).decode,
    "embeddings": _embedding_request,
}
_REPLIES: Mapping[str, Callable[[str], Reply | EmbeddingReply]] = {
    "chat": msgspec.json.Decoder(Reply).decode,
    "embeddings": msgspec.json.Decoder(EmbeddingReply).decode,
}


def _attempt_of(row: sqlite3.Row) -> Attempt:
    return Attempt(**{name: row[name] for name in ATTEMPT}, usage=_usage_of(row))


def _only_attempt(row: sqlite3.Row) -> Attempt:
    only = {name: row[f"only_{name}"] for name in _ONLY}
    return Attempt(**only, **{name: row[name] for name in _SHARED}, usage=_usage_of(row))


def _usage_of(row: sqlite3.Row) -> Usage | None:
    return None if row["input_tokens"] is None else Usage(**{name: row[name] for name in USAGE})
