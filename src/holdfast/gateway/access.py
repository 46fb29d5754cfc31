"""Who calls: told by a key or a session, from memory."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from holdfast.clock import Clock
from holdfast.errors import Unauthenticated
from holdfast.state.accounts import Account
from holdfast.state.keys import ID_LENGTH, Key, Role, microseconds
from holdfast.state.limits import Limit

COOKIE: Final = "holdfast_session"
_COOKIE: Final = COOKIE.encode()


class Caller(Struct, frozen=True):
    """On whose authority a call is made. It holds no secret."""

    key: str | None = None
    """The id of its key; None with an account, and while the gateway knows no keys."""
    tenant: str | None = None
    role: Role = "admin"
    features: frozenset[str] | None = None
    """The features and models that it may call; None: all."""
    limits: tuple[Limit, ...] = ()
    account: str | None = None
    """The name of the account that signed in."""


LOCAL: Final = Caller()
"""Everyone, while the gateway knows no keys."""


class _Entry(Struct, frozen=True):
    caller: Caller
    digest: bytes
    ends_us: int | None


class Access:
    """What keys and sessions there are. It is swapped whole when they change.

    `sessions` are accounts by the SHA-256 of their sessions' tokens. `open` says that neither a key nor an account was
    ever made: everyone is `LOCAL`, and the gateway serves its own machine alone.
    """

    def __init__(
        self, keys: Sequence[Key], sessions: Mapping[bytes, Account], clock: Clock, *, open: bool = False
    ) -> None:
        self.open = open and not keys and not sessions
        self._clock = clock
        self._keys = {key.id.encode(): _of_key(key) for key in keys if key.revoked_us is None}
        self._sessions = {digest: _of_session(digest, account) for digest, account in sessions.items()}
        self._nobody = _Entry(LOCAL, secrets.token_bytes(32), 0)

    def caller(self, authorization: bytes | None, x_api_key: bytes | None, cookie: bytes | None) -> Caller:
        """Return who calls, by the values of these headers: the first of them that brings anything counts.

        A token is looked up by the part of it that is no secret. The rest decides by a comparison of hashes whose time
        tells nothing, made for unknown keys too.

        Raises:
            Unauthenticated: there is no token, or it is not valid. Nothing tells why.
        """
        if self.open:
            return LOCAL
        token = bearer(authorization) or x_api_key
        if token:
            entry, digest = self._keys.get(token[:ID_LENGTH], self._nobody), hashlib.sha256(token).digest()
        else:
            digest = hashlib.sha256(session_token(cookie)).digest()
            entry = self._sessions.get(digest, self._nobody)
        right = hmac.compare_digest(digest, entry.digest)
        if not right or (entry.ends_us is not None and entry.ends_us <= microseconds(self._clock)):
            raise Unauthenticated
        return entry.caller


def _of_key(key: Key) -> _Entry:
    caller = Caller(key.id, key.tenant, key.role, frozenset(key.features) if key.features else None, key.limits)
    return _Entry(caller, key.digest, key.expires_us)


def _of_session(digest: bytes, account: Account) -> _Entry:
    return _Entry(
        Caller(tenant=account.tenant, role=account.role, account=account.name), digest, account.session_ends_us
    )


def bearer(authorization: bytes | None) -> bytes | None:
    """Return the token of an `Authorization: Bearer`; other schemes are not ours."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(b" ")
    return token.strip(b" ") if scheme.lower() == b"bearer" else None


def session_token(cookie: bytes | None) -> bytes:
    """Return the token in a `Cookie` header; nothing if there is none, or if it is ambiguous."""
    pairs = [pair.strip(b" \t").partition(b"=") for pair in (cookie or b"").split(b";")]
    tokens = [value for name, _, value in pairs if name == _COOKIE]
    return tokens[0] if len(tokens) == 1 else b""
