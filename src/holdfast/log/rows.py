"""Events as rows of the database, and back."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Reply, Request, Usage
from holdfast.errors import LogError
from holdfast.events import Attempt, Call, Snapshot

Row = tuple[object, ...]

USAGE = Usage.__struct_fields__
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
CALL = (
    "id",
    "at_us",
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
    "error",
    "message",
    "finish",
    "stream",
    "store",
    "duration_us",
    "first_token_us",
    "session",
    "subject",
    "cost_nanousd",
)
CALLS = ("seq", *CALL, "tags", *USAGE)
ATTEMPTS = ("call", "n", *ATTEMPT, *USAGE)
BODIES = ("call", "request", "reply")
SNAPSHOTS = ("hash", "at_us", "files")
"""The columns of the tables, in the order of the rows made here."""

_NO_USAGE = (None,) * len(USAGE)
_INT64 = range(-(2**63), 2**63)
_encode = msgspec.json.Encoder().encode
_texts = msgspec.json.Decoder(dict[str, str]).decode


# --- to rows ----------------------------------------------------------------------------------------------------------


def call_row(seq: int, call: Call) -> Row:
    return (
        seq,
        call.id,
        call.at_us,
        call.kind,
        call.wire,
        call.name,
        call.feature,
        call.model,
        call.provider,
        call.served_model,
        call.fingerprint,
        call.config,
        call.outcome,
        call.status,
        call.error,
        call.message,
        call.finish,
        call.stream,
        call.store,
        call.duration_us,
        call.first_token_us,
        call.session,
        call.subject,
        call.cost_nanousd,
        json_text(call.tags) if call.tags else None,
        *_usage_row(call.usage),
    )


def attempt_row(seq: int, n: int, attempt: Attempt) -> Row:
    return (
        seq,
        n,
        attempt.model,
        attempt.provider,
        attempt.started_us,
        attempt.duration_us,
        attempt.first_token_us,
        attempt.served_model,
        attempt.provider_status,
        attempt.error,
        attempt.message,
        attempt.cost_nanousd,
        *_usage_row(attempt.usage),
    )


def body_row(seq: int, call: Call) -> Row:
    request, reply = call.request, call.reply
    return (seq, None if request is None else json_text(request), None if reply is None else json_text(reply))


def snapshot_row(snapshot: Snapshot) -> Row:
    return (snapshot.hash, snapshot.at_us, json_text(snapshot.files))


def json_text(value: object) -> str:
    """Encode a value, with `?` for what no JSON text can hold: lone surrogates, values that are not JSON."""
    try:
        return _encode(value).decode()
    except (TypeError, ValueError, OverflowError):
        plain = msgspec.to_builtins(value, enc_hook=repr, str_keys=True)
        return json.dumps(plain, ensure_ascii=False, default=repr).encode("utf-8", "replace").decode()


def storable(row: Row) -> Row:
    """Return a row with `?` for lone surrogates, and without integers that the database can't hold."""
    return tuple([_storable(value) for value in row])


def _storable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return None if isinstance(value, int) and value not in _INT64 else value


def _usage_row(usage: Usage | None) -> Row:
    if usage is None:
        return _NO_USAGE
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.input_audio_tokens,
        usage.output_audio_tokens,
    )


# --- from rows --------------------------------------------------------------------------------------------------------


def call_of(row: sqlite3.Row, attempts: Sequence[sqlite3.Row], body: sqlite3.Row | None = None) -> Call:
    """Put a call together again. Raises LogError where its JSON is not what this version writes."""
    fields: dict[str, Any] = {name: row[name] for name in CALL}
    fields["stream"] = bool(row["stream"])
    try:
        if row["tags"] is not None:
            fields["tags"] = _texts(row["tags"])
        if body is not None:
            fields.update(_bodies(row["kind"], body))
    except (msgspec.MsgspecError, TypeError, KeyError) as error:
        raise LogError(f"The log holds call {row['id']} in a form that this version can't read: {error}") from error
    return Call(**fields, usage=_usage_of(row), attempts=tuple([_attempt_of(attempt) for attempt in attempts]))


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


def _usage_of(row: sqlite3.Row) -> Usage | None:
    return None if row["input_tokens"] is None else Usage(**{name: row[name] for name in USAGE})
