"""Sealing: what is written down can be read with the key of its owner alone, and where it was written alone."""

from collections.abc import Iterable

from holdfast.errors import PrivacyError
from holdfast.privacy.sealing.ciphers import NONCE_BYTES, TAG_BYTES, Altered, decrypt, encrypt
from holdfast.privacy.sealing.keyring import Keyring

_FORM = b"\x01"
_NUMBER_BYTES = 8
_HEADER_BYTES = len(_FORM) + _NUMBER_BYTES
OVERHEAD_BYTES = _HEADER_BYTES + NONCE_BYTES + TAG_BYTES
"""How much longer sealed data is."""


class Destroyed(PrivacyError):
    """The key was destroyed by an erasure: what was sealed with it is gone."""


def owner_of(subject: str | None, tenant: str | None) -> str:
    """Return whose key seals what belongs to a subject (its keyed hash), or where none is named, to a tenant."""
    return subject if subject is not None else f"tenant:{tenant or ''}"


class Sealer:
    """Seals with the keys of a keyring. Its methods may be called from any thread."""

    def __init__(self, keyring: Keyring, *, sealing: bool = True) -> None:
        self._keyring = keyring
        self.sealing = sealing
        """Whether what is new is to be sealed, or only what is old to be opened."""

    def prepare(self, owners: Iterable[str]) -> None:
        """Have the keys of these owners at hand, durably made where there are none: once before each batch.

        It also takes note of the keys that other processes destroyed.

        Raises:
            PrivacyError: the keyring can't be used.
        """
        self._keyring.key(owners)

    def seal(self, owner: str, data: bytes, context: bytes) -> bytes:
        """Return `data`, to be opened for the same owner and in the same context alone: where it is kept.

        Raises:
            PrivacyError: the keyring can't be used.
        """
        key = self._keyring.at_hand(owner) or self._keyring.key((owner,))[owner]
        header = _FORM + key.number.to_bytes(_NUMBER_BYTES, "big")
        return header + encrypt(key.cipher, data, _bound(header, owner, context))

    def open(self, owner: str, sealed: bytes, context: bytes) -> bytes:
        """Return what was sealed for this owner in this context.

        Raises:
            Destroyed: its key was destroyed.
            Altered: it is not what was sealed, or not for this owner or in this context.
            PrivacyError: the keyring can't be used, or never had this key.
        """
        header = sealed[:_HEADER_BYTES]
        if len(sealed) < OVERHEAD_BYTES or header[:1] != _FORM:
            raise Altered
        cipher = self._keyring.open(owner, int.from_bytes(header[1:], "big"))
        if cipher is None:
            raise Destroyed
        return decrypt(cipher, sealed[_HEADER_BYTES:], _bound(header, owner, context))


def _bound(header: bytes, owner: str, context: bytes) -> bytes:
    """Return all that sealed data is bound to, so that no two such triples look alike."""
    name = owner.encode()
    return b"%b%d:%b%b" % (header, len(name), name, context)
