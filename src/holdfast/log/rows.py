"""Events as rows of the database, and back."""

import json
import sqlite3
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec

from holdfast.chat import Usage
from holdfast.errors import LogError
from holdfast.events import Attempt, Call, FingerprintChanged, Snapshot

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
    "contract",
    "tenant",
    "key",
)
"""What many calls have in common: it is stored once, and a call holds its number."""
_COMMON = ("id", "at_us", "duration_us", "first_token_us", "cost_nanousd")
_RARE = ("error", "message", "session", "subject")
CHECKED = ("repairs", "replayed", "samples", "agreement")
"""What contracts and consistency make of a call."""
CALL = (*PROFILE, *_COMMON, *_RARE, *CHECKED)
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
    "reason",
    "estimated",
    "saved_tokens",
    "ignored",
)
_ONLY = ("started_us", "duration_us", "first_token_us", "provider_status", "estimated")
"""What the only attempt of a call knows beyond its call."""
_SHARED = ("model", "provider", "served_model", "cost_nanousd")
COMMON = ("seq", "profile", "block", "place", *_COMMON, *USAGE, *[f"only_{name}" for name in _ONLY])
RARE = (*_RARE, "tags")
OTHERS = ("call", "n", *ATTEMPT, *USAGE)
SNAPSHOTS = ("hash", "at_us", "files")
FINGERPRINTS = FingerprintChanged.__struct_fields__
"""The columns of the tables, in the order of the rows made here."""

_NO_USAGE = (None,) * len(USAGE)
_NO_ONLY = (None,) * len(_ONLY)
_INT64 = range(-(2**63), 2**63)
_TAGS, _CHECKED = len(_RARE), len(RARE)
"""Where in the optional columns they are."""
_NO_CHECKED = (0, None, None, None)
_NO_OPTIONAL: Row = (*(None,) * len(_RARE), {}, *_NO_CHECKED)
_profile, _common, _optional, _attempt, _usage, _only = [
    attrgetter(*names) for names in (PROFILE, _COMMON, RARE + CHECKED, ATTEMPT, USAGE, _ONLY)
]
_shared = attrgetter(*_SHARED, "usage")
_fingerprint = attrgetter(*FINGERPRINTS)
_encode = msgspec.json.Encoder().encode
_texts = msgspec.json.Decoder(dict[str, str]).decode


# --- to rows ----------------------------------------------------------------------------------------------------------


def profile_row(call: Call) -> Row:
    row: Row = _profile(call)
    return row


def common_row(seq: int, profile: int, home: tuple[int | None, int | None], call: Call, told: bool) -> Row:
    """Return the columns that most calls fill.

    `profile` is the number of theirs, `home` the number of the block of their bodies and the place there, `told` what
    `is_told` says.
    """
    usage = _NO_USAGE if call.usage is None else _usage(call.usage)
    only = _only(call.attempts[0]) if told else _NO_ONLY
    return (seq, profile, *home, *_common(call), *usage, *only)


def optional_rows(calls: Sequence[Call]) -> tuple[tuple[str, ...], Sequence[Row]]:
    """Return those columns that calls may leave empty and some of these fill, and their values.

    A statement costs by the column, and most calls fill none of them.
    """
    fields = list(map(_optional, calls))
    if fields.count(_NO_OPTIONAL) == len(fields):
        return (), ()
    if [row[_CHECKED:] for row in fields].count(_NO_CHECKED) == len(fields):
        return RARE, [(*row[:_TAGS], _tags_text(row[_TAGS])) for row in fields]
    return RARE + CHECKED, [(*row[:_TAGS], _tags_text(row[_TAGS]), *row[_CHECKED:]) for row in fields]


def optional_row(call: Call) -> Row:
    """Return the columns `RARE` and `CHECKED`."""
    row = _optional(call)
    return (*row[:_TAGS], _tags_text(row[_TAGS]), *row[_CHECKED:])


def _tags_text(tags: object) -> str | None:
    return json_text(tags) if tags else None


def is_told(call: Call) -> bool:
    """Whether the row of a call tells all about its attempts: there is one, which worked and is what the call tells."""
    if len(call.attempts) != 1:
        return False
    attempt = call.attempts[0]
    if attempt.error is not None or attempt.message is not None or attempt.reason != "first":
        return False
    return not (attempt.ignored or attempt.saved_tokens) and bool(_shared(attempt) == _shared(call))


def attempt_row(seq: int, n: int, attempt: Attempt) -> Row:
    return (seq, n, *_attempt(attempt), *(_NO_USAGE if attempt.usage is None else _usage(attempt.usage)))


def snapshot_row(snapshot: Snapshot) -> Row:
    return (snapshot.hash, snapshot.at_us, json_text(snapshot.files))


def fingerprint_row(change: FingerprintChanged) -> Row:
    row: Row = _fingerprint(change)
    return row


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


# --- from rows --------------------------------------------------------------------------------------------------------


def call_of(row: sqlite3.Row, attempts: Sequence[sqlite3.Row]) -> Call:
    """Put a call together again, with those `attempts` that its row does not tell, and without its bodies.

    Raises:
        LogError: its JSON is not what this version writes.
    """
    fields: dict[str, Any] = {name: row[name] for name in CALL}
    fields["stream"] = bool(row["stream"])
    try:
        if row["tags"] is not None:
            fields["tags"] = _texts(row["tags"])
    except (ValueError, msgspec.MsgspecError) as error:
        raise unreadable(row, error) from error
    told = () if row["only_started_us"] is None else (_only_attempt(row),)
    others = [_attempt_of(attempt) for attempt in attempts]
    return Call(**fields, usage=_usage_of(row), attempts=(*told, *others))


def unreadable(row: sqlite3.Row, error: Exception) -> LogError:
    """Return what to raise of a call that is not what this version writes."""
    return LogError(f"The log holds call {row['id']} in a form that this version can't read: {error}")


def snapshot_of(row: sqlite3.Row) -> Snapshot:
    return Snapshot(hash=row["hash"], at_us=row["at_us"], files=_texts(row["files"]))


def fingerprint_of(row: sqlite3.Row) -> FingerprintChanged:
    return FingerprintChanged(**{name: row[name] for name in FINGERPRINTS})


def _attempt_of(row: sqlite3.Row) -> Attempt:
    fields = {name: row[name] for name in ATTEMPT}
    flags = {name: bool(row[name]) for name in ("estimated", "ignored")}
    return Attempt(**fields | flags, usage=_usage_of(row))


def _only_attempt(row: sqlite3.Row) -> Attempt:
    only = {name: row[f"only_{name}"] for name in _ONLY} | {"estimated": bool(row["only_estimated"])}
    return Attempt(**only, **{name: row[name] for name in _SHARED}, usage=_usage_of(row))


def _usage_of(row: sqlite3.Row) -> Usage | None:
    return None if row["input_tokens"] is None else Usage(**{name: row[name] for name in USAGE})
