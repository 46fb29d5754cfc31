"""The certificate of an erasure: what was found where, and which key was destroyed, signed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

import msgspec

from holdfast.errors import PrivacyError
from holdfast.privacy.sealing.erasures import Erasure
from holdfast.privacy.signing import verify

_MEANING = b"holdfast erasure certificate\n"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Signs(Protocol):
    """Signs for an installation (see `signing.Signer`)."""

    public: str

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`."""
        ...


class Erased(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One erasure of one subject. Times are ISO 8601 in UTC."""

    erasure: int
    """Its number."""
    subject: str
    """The keyed hash."""
    began: str
    """Calls that arrived until then are gone."""
    ended: str | None
    """None where it is not finished."""
    key: int | None
    """The number of the key that was destroyed, if there was one."""
    found: dict[str, int]
    """How much was found and deleted, by the name of the store."""
    interrupted: tuple[str, ...] = ()
    """Stores whose erasure was cut off and tried again: at least that much was found there."""


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The erasures that were asked for, one a subject, oldest first. Unsigned where the extra is not installed."""

    format: Literal["holdfast.erasure/1"] = "holdfast.erasure/1"
    issued: str
    erasures: tuple[Erased, ...]
    earlier: tuple[Erased, ...] = ()
    """Those of the same subjects before: they had been erased, and came back."""
    public_key: str | None = None
    """In 64 hexadecimal digits (Ed25519)."""
    signature: str | None = None
    """In 128 hexadecimal digits."""

    def json(self) -> bytes:
        """Return the certificate as it is handed out."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @property
    def signed(self) -> bytes:
        """What the signature is made of."""
        return _MEANING + msgspec.json.encode(msgspec.structs.replace(self, signature=None), order="deterministic")


def issue(erasures: Sequence[Erasure], now_us: int, signer: Signs | None) -> Certificate:
    """Return a certificate of these erasures, oldest first. Raises PrivacyError if it can't be signed."""
    latest = {erasure.subject: erasure.n for erasure in erasures}
    certificate = Certificate(
        issued=_time(now_us),
        erasures=tuple(_erased(erasure) for erasure in erasures if erasure.n == latest[erasure.subject]),
        earlier=tuple(_erased(erasure) for erasure in erasures if erasure.n != latest[erasure.subject]),
        public_key=None if signer is None else signer.public,
    )
    if signer is None:
        return certificate
    return msgspec.structs.replace(certificate, signature=signer.sign(certificate.signed).hex())


def verify_certificate(data: bytes, public: str | None) -> Certificate:
    """Return a certificate that was signed with the key `public`, and not changed since.

    With None it only has to be in keeping with the key that it names itself: compare that.

    Raises:
        PrivacyError: it is none, is unsigned, was changed or signed by another; or the extra is not installed.
    """
    try:
        certificate = msgspec.json.decode(data, type=Certificate)
        signature = bytes.fromhex(certificate.signature or "")
    except ValueError as error:  # as are the errors of msgspec
        raise PrivacyError(f"This is not a certificate of an erasure: {error}.") from error
    if certificate.public_key is None or not signature:
        raise PrivacyError("The certificate is not signed.")
    if public is not None and certificate.public_key != public:
        raise PrivacyError(f"The certificate was signed with the key {certificate.public_key}, not with {public}.")
    if not verify(certificate.public_key, signature, certificate.signed):
        raise PrivacyError("The certificate was changed after it was signed.")
    return certificate


def _erased(erasure: Erasure) -> Erased:
    return Erased(
        erasure=erasure.n,
        subject=erasure.subject,
        began=_time(erasure.at_us),
        ended=None if erasure.done_us is None else _time(erasure.done_us),
        key=erasure.key,
        found=dict(erasure.found),
        interrupted=tuple(erasure.interrupted),
    )


def _time(us: int) -> str:
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds").replace("+00:00", "Z")
