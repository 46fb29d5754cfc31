"""Who may call: keys, kept as hashes of tokens that are shown once."""

import hashlib
import math
import re
import secrets
import string
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from sqlite3 import Connection, Row
from typing import Final, Literal, get_args

import msgspec
from msgspec import Struct, structs

from holdfast.clock import Clock
from holdfast.errors import StateError
from holdfast.state.files import StateFile
from holdfast.state.limits import Limit

Role = Literal["app", "developer", "reviewer", "auditor", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
Standing = Literal["valid", "expired", "revoked"]

ID_LENGTH: Final = 11
"""The characters of a token that name its key: "hf_ab12cd34"."""
_ID_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_LETTERS: Final = string.ascii_letters + string.digits
_REST_LENGTH: Final = 40
"""Of what follows the id: 238 bits."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_LATEST_US: Final = 253_402_300_799_000_000
"""The end of the year 9999, beyond which Python knows no dates."""


class Key(Struct, frozen=True, kw_only=True):
    """What one token may do. Times are microseconds since 1970 UTC."""

    id: str
    """The beginning of its token, by which it is named: "hf_ab12cd34"."""
    tenant: str
    role: Role
    features: tuple[str, ...] = ()
    """The features and models that it may call; none stands for all."""
    limits: tuple[Limit, ...] = ()
    """What its calls may use. A key that took the place of another draws on the limits of that one."""
    created_us: int
    digest: bytes
    """SHA-256 of the whole token."""
    expires_us: int | None = None
    revoked_us: int | None = None
    successor: str | None = None
    """The key that was made to take its place."""

    def standing(self, now_us: int) -> Standing:
        """Return whether it is valid, or why it is not."""
        if self.revoked_us is not None:
            return "revoked"
        return "valid" if self.expires_us is None or now_us < self.expires_us else "expired"

    def __repr__(self) -> str:
        return f"Key({self.id!r}, tenant={self.tenant!r}, role={self.role!r})"


def check_name(what: str, name: str) -> str:
    """Return the name of a tenant or of an account. Raises StateError if it can't be one."""
    if not _NAME.fullmatch(name):
        raise StateError(
            f"{what} {shown(name)}: expected up to 64 letters, digits and . _ @ -, the first a letter or a digit."
        )
    return name


def check_role(role: str) -> Role:
    """Return a role. Raises StateError if there is none of that name."""
    if role not in ROLES:
        raise StateError(f"role {shown(role)}: expected one of {', '.join(ROLES)}.")
    return role


def shown(name: object) -> str:
    """Return as much of what should be a name as may be told: it may be a token that was given in its place."""
    text = str(name)
    return repr(text if len(text) <= ID_LENGTH else f"{text[:ID_LENGTH]}...")


def microseconds(clock: Clock) -> int:
    """Return the time in microseconds since 1970 UTC."""
    return int(clock.now() * 1_000_000)


def nothing(_: object) -> None:
    """Go on."""


class Keys:
    """The keys of an installation, on one connection. Methods block; any thread and any process may call them.

    `before` is given the key as it will be, when all else is right and nothing is changed yet: what it raises leaves
    all as it was.

    Raises:
        StateError: from every method. The state can't be used, or what is asked makes no sense; nothing was changed.
    """

    def __init__(self, path: Path, clock: Clock, *, read_only: bool = False) -> None:
        self._file = StateFile(path, read_only=read_only)
        self._clock = clock

    def create(
        self,
        *,
        tenant: str,
        role: str,
        features: Sequence[str] = (),
        limits: Sequence[Limit] = (),
        expires_us: int | None = None,
        before: Callable[[Key], None] = nothing,
    ) -> tuple[str, Key]:
        """Make a key. Return its token, which can't be had again, and the key.

        Limits of the scope "key" become those of this key, whatever they are of.
        """
        now_us = microseconds(self._clock)
        _check_expiry(expires_us, now_us)
        check_name("tenant", tenant)
        rights = Key(
            id="", tenant=tenant, role=check_role(role), features=_checked(features), created_us=now_us, digest=b""
        )
        with self._file.changing() as db:
            token, id = _new_token(db)
            own = tuple(structs.replace(limit, of=id) if limit.scope == "key" else limit for limit in limits)
            key = structs.replace(rights, id=id, limits=own, expires_us=expires_us, digest=digest(token))
            before(key)
            _insert(db, key)
        return token, key

    def rotate(self, id: str, *, overlap_s: float, before: Callable[[Key], None] = nothing) -> tuple[str, Key]:
        """Make a key that takes the place of another, which expires after `overlap_s`. Return its token and itself.

        It has the same rights, for as long a time, and draws on the same limits. A key can be rotated once.
        """
        now_us = microseconds(self._clock)
        ends_us = _after(now_us, overlap_s)
        with self._file.changing() as db:
            old = _find(db, id)
            _check_rotation(old, now_us)
            token, new_id = _new_token(db)
            until_us = None if old.expires_us is None else min(now_us + old.expires_us - old.created_us, _LATEST_US)
            key = structs.replace(old, id=new_id, created_us=now_us, expires_us=until_us, digest=digest(token))
            before(key)
            _insert(db, key)
            ends_us = ends_us if old.expires_us is None else min(ends_us, old.expires_us)
            db.execute("UPDATE keys SET expires_us = ?, successor = ? WHERE id = ?", (ends_us, new_id, old.id))
        return token, key

    def revoke(self, id: str, *, before: Callable[[Key], None] = nothing) -> Key:
        """Make a key invalid at once, and return it. One that is revoked stays as it is."""
        now_us = microseconds(self._clock)
        with self._file.changing() as db:
            key = _find(db, id)
            if key.revoked_us is None:
                key = structs.replace(key, revoked_us=now_us)
                before(key)
                db.execute("UPDATE keys SET revoked_us = ? WHERE id = ?", (now_us, key.id))
        return key

    def all(self) -> Sequence[Key]:
        """Return every key that was ever made, in the order of creation."""
        with self._file.reading() as db:
            return _all(db)

    def version(self) -> int:
        """Return what grows with every change of a key, an account or a session; 0 while there never was one."""
        return self._file.version()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()


def digest(token: str) -> bytes:
    """Return the 32 bytes that a token is kept as. It is random enough that a fast hash tells nothing of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _new_token(db: Connection) -> tuple[str, str]:
    """Return a token and the id that it begins with, which no key has."""
    taken = {row["id"] for row in db.execute("SELECT id FROM keys")}
    while (id := f"hf_{_random(_ID_LETTERS, ID_LENGTH - 3)}") in taken:
        pass
    return f"{id}_{_random(_LETTERS, _REST_LENGTH)}", id


def _random(letters: str, length: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(length))


def _checked(features: Sequence[str]) -> tuple[str, ...]:
    for name in features:
        if not name or not name.isprintable() or name != name.strip():
            raise StateError(f"feature {shown(name)}: expected the name of a feature or a model.")
    return tuple(sorted(set(features)))


def _check_expiry(expires_us: int | None, now_us: int) -> None:
    if expires_us is not None and not now_us < expires_us <= _LATEST_US:
        raise StateError("a key expires later than now, and before the year 10000.")


def _after(now_us: int, seconds: float) -> int:
    if not math.isfinite(seconds) or not 0 <= seconds * 1_000_000 <= _LATEST_US - now_us:
        raise StateError(f"overlap of {seconds:g} s: expected 0 or more seconds, ending before the year 10000.")
    return now_us + int(seconds * 1_000_000)


def _check_rotation(key: Key, now_us: int) -> None:
    standing = key.standing(now_us)
    if standing != "valid":
        raise StateError(f"key {key.id} is {standing}: create a new one.")
    if key.successor is not None:
        raise StateError(f"key {key.id} was rotated already: {key.successor} takes its place; rotate that one.")


def _insert(db: Connection, key: Key) -> None:
    fields = structs.asdict(key)
    for name in ("features", "limits"):
        fields[name] = msgspec.json.encode(fields[name]).decode()
    columns = ", ".join(fields)
    db.execute(f"INSERT INTO keys ({columns}) VALUES ({', '.join('?' * len(fields))})", tuple(fields.values()))  # noqa: S608


def _all(db: Connection) -> list[Key]:
    return [_key(row) for row in db.execute("SELECT * FROM keys ORDER BY number")]


def _key(row: Row) -> Key:
    try:
        lists = {name: msgspec.json.decode(row[name]) for name in ("features", "limits")}
        return msgspec.convert({**dict(row), **lists}, Key, builtin_types=(bytes,))
    except (msgspec.MsgspecError, TypeError) as error:
        raise StateError(f"key {shown(row['id'])}: what is kept of it is damaged ({error}).") from error


def _find(db: Connection, id: str) -> Key:
    """Return the key of this id, or of this token."""
    keys = {key.id: key for key in _all(db)}
    asked = id[:ID_LENGTH] if id[ID_LENGTH : ID_LENGTH + 1] == "_" else id
    if key := keys.get(asked):
        return key
    near = get_close_matches(asked, keys, cutoff=0.7)
    advice = f"did you mean {' or '.join(near)}?" if near else "see holdfast keys list."
    raise StateError(f"there is no key {shown(id)}: {advice}")
