"""Who may use the console: accounts with passwords, and the sessions of those who signed in."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from sqlite3 import Connection, IntegrityError, Row

import msgspec
from msgspec import Struct

from holdfast.clock import Clock
from holdfast.errors import StateError
from holdfast.state.files import StateFile
from holdfast.state.keys import Role, check_name, check_role, digest, microseconds, nothing, shown
from holdfast.state.passwords import Passwords

LONGEST_SESSION_S = 366 * 86_400.0
MOST_SESSIONS = 100
_TOKEN_BYTES = 32
_NAME_LENGTH = 65  # no account has a longer name


class Account(Struct, frozen=True, kw_only=True):
    """A person who may sign in. Times are microseconds since 1970 UTC."""

    name: str
    role: Role
    tenant: str | None = None
    """Whose calls it sees; None: those of all tenants."""
    created_us: int
    session_ends_us: int | None = None
    """When the session ends that the account was found by."""


class Accounts:
    """The accounts of an installation, on one connection. Methods block; any thread and any process may call them.

    `before` is given the account when all else is right and nothing is changed for others to see: what it raises leaves
    all as it was.

    How often one may fail to sign in is counted in the memory of this object: a process has one.

    Raises:
        StateError: from every method. The state can't be used, or what is asked makes no sense; nothing was changed.
    """

    def __init__(self, path: Path, clock: Clock, *, read_only: bool = False) -> None:
        self._file = StateFile(path, read_only=read_only)
        self._clock = clock
        self._passwords = Passwords(clock)

    def create(
        self,
        name: str,
        role: str,
        tenant: str | None,
        password: str,
        *,
        before: Callable[[Account], None] = nothing,
    ) -> Account:
        """Make an account. Only an auditor or an admin may be of no tenant."""
        account = Account(
            name=check_name("account", name),
            role=check_role(role),
            tenant=None if tenant is None else check_name("tenant", tenant),
            created_us=microseconds(self._clock),
        )
        if tenant is None and account.role not in ("auditor", "admin"):
            raise StateError(f"account {name}: the role {role} sees the calls of one tenant: name it.")
        hash = self._passwords.hash(password)
        with self._file.changing() as db:
            try:
                db.execute(
                    "INSERT INTO accounts (name, role, tenant, created_us, password) VALUES (?, ?, ?, ?, ?)",
                    (account.name, account.role, account.tenant, account.created_us, hash),
                )
            except IntegrityError as error:
                raise StateError(f"account {name}: there is one of this name already.") from error
            before(account)
        return account

    def change_password(self, name: str, password: str, *, before: Callable[[Account], None] = nothing) -> Account:
        """Give an account a new password, and end its sessions."""
        hash = self._passwords.hash(password)
        with self._file.changing() as db:
            account = _find(db, name)
            before(account)
            db.execute("UPDATE accounts SET password = ? WHERE name = ?", (hash, account.name))
            db.execute("DELETE FROM sessions WHERE account = ?", (account.name,))
        return account

    def remove(self, name: str, *, before: Callable[[Account], None] = nothing) -> Account:
        """Remove an account, and end its sessions."""
        with self._file.changing() as db:
            account = _find(db, name)
            before(account)
            db.execute("DELETE FROM sessions WHERE account = ?", (account.name,))
            db.execute("DELETE FROM accounts WHERE name = ?", (account.name,))
        return account

    def all(self) -> Sequence[Account]:
        """Return every account, by name."""
        with self._file.reading() as db:
            return _all(db)

    def verify(self, name: str, password: str) -> Account | None:
        """Return the account of this name and password, None if there is none. Both answers take as long.

        Raises:
            TooManyTries: there were too many failures, or too many are signing in. It says when to try again.
        """
        name = name[:_NAME_LENGTH]
        with self._file.reading() as db:
            row = next((row for row in db.execute("SELECT * FROM accounts") if row["name"] == name), None)
        right = self._passwords.check(name, password, None if row is None else row["password"])
        return None if row is None or not right else _account(row)

    def open_session(self, account: Account, ttl_s: float) -> str:
        """Return the token of a new session, which can't be had again. It ends after `ttl_s`, or when it is closed.

        An account has `MOST_SESSIONS`: the oldest make room.
        """
        if not 0 < ttl_s <= LONGEST_SESSION_S:  # also what is not a number
            raise StateError(
                f"session of {ttl_s:g} s: expected more than 0 and at most {LONGEST_SESSION_S:.0f} seconds."
            )
        now_us = microseconds(self._clock)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._file.changing() as db:
            name = _find(db, account.name).name
            db.execute("DELETE FROM sessions WHERE expires_us <= ?", (now_us,))
            db.execute(_MAKE_ROOM, (name, MOST_SESSIONS - 1))
            ends_us = now_us + int(ttl_s * 1_000_000)
            db.execute(
                "INSERT INTO sessions (digest, account, created_us, expires_us) VALUES (?, ?, ?, ?)",
                (digest(token), name, now_us, ends_us),
            )
        return token

    def session(self, token: str) -> Account | None:
        """Return whose session this is, None if there is none or it has ended."""
        return self.sessions().get(digest(token))

    def sessions(self) -> Mapping[bytes, Account]:
        """Return the accounts that are signed in, by the SHA-256 of their sessions' tokens."""
        with self._file.reading() as db:
            rows = db.execute(_SESSIONS, (microseconds(self._clock),)).fetchall()
        return {row["digest"]: _account(row) for row in rows}

    def close_session(self, token: str) -> None:
        """End a session. One that has ended stays so."""
        with self._file.changing() as db:
            db.execute("DELETE FROM sessions WHERE digest = ?", (digest(token),))

    def version(self) -> int:
        """Return what grows with every change of a key, an account or a session; 0 while there never was one."""
        return self._file.version()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()


_SESSIONS = """
SELECT sessions.digest, sessions.expires_us AS session_ends_us, accounts.*
FROM sessions JOIN accounts ON accounts.name = sessions.account WHERE sessions.expires_us > ?
"""
_MAKE_ROOM = """
DELETE FROM sessions WHERE rowid IN
    (SELECT rowid FROM sessions WHERE account = ? ORDER BY created_us DESC, rowid DESC LIMIT -1 OFFSET ?)
"""


def _all(db: Connection) -> list[Account]:
    return [_account(row) for row in db.execute("SELECT * FROM accounts ORDER BY name")]


def _account(row: Row) -> Account:
    try:
        return msgspec.convert(dict(row), Account)
    except msgspec.MsgspecError as error:
        raise StateError(f"account {shown(row['name'])}: what is kept of it is damaged ({error}).") from error


def _find(db: Connection, name: str) -> Account:
    accounts = {account.name: account for account in _all(db)}
    if account := accounts.get(name):
        return account
    near = get_close_matches(name[:_NAME_LENGTH], accounts)
    advice = f"did you mean {' or '.join(near)}?" if near else f"there are {len(accounts)} accounts, list them."
    raise StateError(f"there is no account {shown(name)}: {advice}")
