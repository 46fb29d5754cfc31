"""AES-GCM, whose library is loaded when something is first sealed or opened."""

import os
from functools import cache
from typing import TYPE_CHECKING

from holdfast.errors import PrivacyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
"""Random ones: a key may seal 2**32 times before two are the same with a probability of 2**-33 (NIST SP 800-38D)."""
TAG_BYTES = 16


class Altered(PrivacyError):
    """What was sealed has been altered, or was sealed with another key or for another place."""


@cache
def _library() -> tuple[type["AESGCM"], type[Exception]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise PrivacyError('Sealing needs the package "cryptography": pip install "holdfast[custody]"') from error
    return AESGCM, InvalidTag


def available() -> bool:
    """Whether the extra is installed."""
    try:
        _library()
    except PrivacyError:
        return False
    return True


def cipher(key: bytes) -> "AESGCM":
    """Return the cipher of a key of 32 bytes. Raises PrivacyError where the extra is not installed."""
    return _library()[0](key)


def encrypt(cipher: "AESGCM", data: bytes, context: bytes) -> bytes:
    """Return nonce, ciphertext and tag. Raises PrivacyError for more than 2 GiB."""
    nonce = os.urandom(NONCE_BYTES)
    try:
        return nonce + cipher.encrypt(nonce, data, context)
    except OverflowError as error:
        raise PrivacyError(f"{len(data)} bytes are more than can be sealed at once.") from error


def decrypt(cipher: "AESGCM", sealed: bytes, context: bytes) -> bytes:
    """Return what was encrypted in the same context. Raises Altered."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise Altered
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
    except _library()[1]:
        raise Altered from None
