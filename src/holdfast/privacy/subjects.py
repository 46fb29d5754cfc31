"""Names of subjects as keyed hashes, so that the log never holds whose data it is.

The key lies beside the log, in a file of its own. Without it nobody can tell which subject a hash stands for, or
whether two logs speak of the same one; who destroys it unlinks every call from its subject at once.
"""

import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

from holdfast.errors import LogError
from holdfast.privacy.files import create_once

KEY_FILE = "subject.key"
KEY_BYTES = 32
_HASH_BYTES = 16
_NEVER_IN_TEXT = b"\xff"


class SubjectHasher:
    """HMAC-SHA256 of a subject's name under a key of this installation, cut to 128 bits."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def hash(self, subject: str, tenant: str | None = None) -> str:
        """Return 32 hexadecimal digits that stand for `subject`: for that of this tenant, others have other hashes."""
        name = subject.encode("utf-8", "surrogatepass")
        if tenant is not None:
            name = _NEVER_IN_TEXT + tenant.encode("utf-8", "surrogatepass") + _NEVER_IN_TEXT + name
        return hmac.digest(self._key, name, "sha256")[:_HASH_BYTES].hex()

    def __repr__(self) -> str:
        return "SubjectHasher(...)"

    @classmethod
    def load(cls, directory: Path, needed: Callable[[], bool] = lambda: False) -> Self:
        """Read the key in a directory; make it first where there is none. Safe when several processes do so at once.

        `needed` says whether there are hashes that only a key which is gone can have made: under another one, nobody
        would find what is to be erased.

        Raises:
            LogError: the key can't be read or made, is not a key, or is gone and needed.
        """
        path = directory / KEY_FILE
        try:
            if not path.exists():
                if needed():
                    raise LogError(
                        f"{path}: the key of subjects is gone, and the log beside it needs it: restore it from its "
                        "backup. If it is lost, nobody can tell any more whose the calls are; move the log away to "
                        "begin anew."
                    )
                create_once(path, os.urandom(KEY_BYTES))
        except OSError as error:
            raise LogError(f"{path}: the key of subjects can't be made: {error.strerror or error}.") from error
        return cls.read(directory)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the key in a directory.

        Raises:
            LogError: there is none, or it is not a key.
        """
        path = directory / KEY_FILE
        try:
            key = path.read_bytes()
        except OSError as error:
            raise LogError(f"{path}: the key of subjects can't be read: {error.strerror or error}.") from error
        if len(key) != KEY_BYTES:
            raise LogError(f"{path}: the key of subjects has {len(key)} bytes instead of {KEY_BYTES}: restore it.")
        return cls(key)
