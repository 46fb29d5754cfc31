"""Signatures (Ed25519, RFC 8032) of this installation, under a key that comes from its master key.

They need `cryptography`, which the extra `custody` brings.
"""

from typing import Protocol, Self

from holdfast.errors import PrivacyError

PURPOSE = "signing"
MISSING = 'signatures need cryptography: pip install "holdfast[custody]"'


class Deriving(Protocol):
    """A master key."""

    def derive(self, purpose: str) -> bytes:
        """Return 32 bytes that stand for this purpose alone."""
        ...


class Signer:
    """Signs for this installation. `public` is the key to check it with, in 64 hexadecimal digits.

    Raises:
        PrivacyError: `cryptography` is not installed.
    """

    def __init__(self, seed: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise PrivacyError(MISSING) from error
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw().hex()

    @classmethod
    def of(cls, master: Deriving) -> Self:
        """Return the signer of the installation that has this master key. Raises PrivacyError."""
        return cls(master.derive(PURPOSE))

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the signature. Begin `data` with what it is, so that it can pass for nothing else."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"Signer({self.public!r})"


def verify(public: str, signature: bytes, data: bytes) -> bool:
    """Return whether a signature is that of `data` under the key `public`; False too if either is malformed.

    Raises:
        PrivacyError: `cryptography` is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise PrivacyError(MISSING) from error
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
