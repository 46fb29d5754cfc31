"""Passwords, kept as argon2id hashes, and the brake on guessing them."""

import math
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from holdfast.clock import Clock
from holdfast.errors import StateError, TooManyTries

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

SHORTEST: Final = 12
LONGEST: Final = 256
FAILURES: Final = 5
"""The most failures to sign in to one account within `WINDOW_S`."""
WINDOW_S: Final = 60.0
AT_ONCE: Final = 2
"""The most hashes that one process computes at once: each takes 19 MiB and tens of milliseconds of a processor."""
PACE: Final = 5.0
"""The most hashes that one process goes on computing in a second, whoever asks..."""
BURST: Final = 20
"""...after so many at once: those who guess may not take the processor from those who call models."""
_MEMORY_KIB: Final = 19 * 1024
_PASSES: Final = 2
_LANES: Final = 1
_BYTES: Final = 32
_SALT_BYTES: Final = 16
_NOBODYS: Final = f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p={_LANES}${'A' * 22}${'A' * 43}"
"""A hash that takes as long to check as any other, and of no password that anyone knows."""


class Passwords:
    """Hashes passwords and checks them, `AT_ONCE` at a time and `PACE` a second.

    An account may fail `FAILURES` times in a minute, which begins with the first failure. That is counted here, in the
    memory of one process, also for accounts that don't exist, or the answer would tell which do.
    """

    def __init__(self, clock: Clock) -> None:
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._throttle = _Throttle(clock)

    def hash(self, password: str) -> str:
        """Return the hash of a new password, as a PHC string. It waits for its turn.

        Raises:
            StateError: the password is too short or too long, or `cryptography` is not installed.
        """
        if not SHORTEST <= len(password) <= LONGEST:
            raise StateError(f"a password has {SHORTEST} to {LONGEST} characters, this one has {len(password)}.")
        with self._slots:
            return _hashed(password)

    def check(self, account: str, password: str, hash: str | None) -> bool:
        """Return whether the password of an account has this hash. Without a hash the answer takes as long, and is no.

        Raises:
            TooManyTries: there were too many failures, or too many are signing in. It says when to try again.
            StateError: `cryptography` is not installed.
        """
        if not self._slots.acquire(blocking=False):  # waiting would take threads from those who call models
            raise TooManyTries("Too many are signing in at this moment. Try again in 1 s.", retry_after=1.0)
        try:
            self._throttle.admit(account)
            right = _verified(password[:LONGEST], hash or _NOBODYS) and hash is not None and len(password) <= LONGEST
            if right:
                self._throttle.forget(account)
            return right
        finally:
            self._slots.release()


class _Failures(NamedTuple):
    ends: float
    """When the minute ends that they were counted in."""
    tries: int


class _Throttle:
    """Counts failures. What it remembers is bounded by how many passwords can be checked in a minute."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._turn = threading.Lock()
        self._failures: dict[str, _Failures] = {}  # by the name of the account
        self._due = -math.inf
        """When the next try would be due, if all had come evenly."""

    def admit(self, name: str) -> None:
        """Count a try as a failure, until `forget` tells that it was none.

        Raises:
            TooManyTries: there were too many in this minute, or of all accounts in this moment. It says when to try
                again.
        """
        now = self._monotonic()
        with self._turn:
            if name not in self._failures or now >= self._failures[name].ends:
                self._failures = {each: past for each, past in self._failures.items() if now < past.ends}
            ends, tries = self._failures.get(name, _Failures(now + WINDOW_S, 0))
            if tries >= FAILURES:
                left = ends - now
                raise TooManyTries(f"Too many failures to sign in. Try again in {left:.0f} s.", retry_after=left)
            self._keep_pace(now)
            self._failures[name] = _Failures(ends, tries + 1)

    def _keep_pace(self, now: float) -> None:
        due = max(self._due, now - (BURST - 1) / PACE)
        if due > now:
            raise TooManyTries("Too many are signing in at this moment. Try again in 1 s.", retry_after=1.0)
        self._due = due + 1 / PACE

    def forget(self, name: str) -> None:
        """Begin anew: somebody signed in."""
        with self._turn:
            self._failures.pop(name, None)


def _hashed(password: str) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    with _argon2id() as kdf:
        hasher = kdf(salt=salt, length=_BYTES, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB)
        return hasher.derive_phc_encoded(_bytes(password))


def _verified(password: str, hash: str) -> bool:
    with _argon2id() as kdf:
        from cryptography.exceptions import InvalidKey

        try:
            kdf.verify_phc_encoded(_bytes(password), hash)
        except InvalidKey:
            return False
        return True


@contextmanager
def _argon2id() -> Iterator["type[Argon2id]"]:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    except ImportError as error:
        raise StateError('accounts need cryptography: pip install "holdfast[custody]"') from error
    try:
        yield Argon2id
    except UnsupportedAlgorithm as error:
        raise StateError(f"accounts need argon2, which this build of cryptography has not ({error}).") from error


def _bytes(password: str) -> bytes:
    """Return what is hashed: the same for each way in which keyboards write the same characters (NFKC)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
