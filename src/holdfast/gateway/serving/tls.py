"""The certificate that callers see, read anew when its files change."""

import logging
import ssl
from pathlib import Path
from typing import Any, Literal

from holdfast.gateway.settings import TlsSettings

Field = Literal["certificate", "key"]
Stamp = tuple[int, int, int] | None
"""What tells that a file has changed. None if it is not there."""

logger = logging.getLogger(__name__)


class CertificateError(ValueError):
    """The files of a certificate can't be used. `field` is the setting at fault."""

    def __init__(self, field: Field, message: str) -> None:
        self.field = field
        super().__init__(message)


class Certificate:
    """The certificate in two files of PEM, relative to `base`. `context` is for the server's sockets.

    Raises:
        CertificateError: a file can't be read, or they are no certificate and its key.
    """

    def __init__(self, settings: TlsSettings, base: Path) -> None:
        self._settings, self._base = settings, base
        self._read = self._seen = self._stamps()
        self._failed: list[Stamp] | None = None
        self._current = self.context = read(settings, base)
        self.context.sni_callback = self._take_current

    def refresh(self) -> None:
        """Take the files if they have changed and stay as they are from one call to the next: a pair is not replaced
        in one step. If they are wrong, the old ones stay in use, for new connections too, and that is logged once."""
        seen, self._seen = self._seen, self._stamps()
        if seen != self._seen or seen in (self._read, self._failed):
            return
        try:
            self._current = read(self._settings, self._base)
        except CertificateError as error:
            self._failed = seen
            logger.error("The certificate was not renewed; the old one stays in use: %s", error)
            return
        self._read, self._failed = seen, None
        logger.info("The certificate was renewed: %s", self._base / self._settings.certificate)

    def _take_current(self, connection: Any, *_: object) -> None:
        """Answer a client's hello, also one that names no server, with what was read last."""
        connection.context = self._current

    def _stamps(self) -> list[Stamp]:
        return [_stamp(self._base / file) for file in (self._settings.certificate, self._settings.key)]


def read(settings: TlsSettings, base: Path) -> ssl.SSLContext:
    """Return a context that shows a certificate. Raises CertificateError."""
    certificate, key = base / settings.certificate, base / settings.key
    _check(certificate, "certificate")
    _check(key, "key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise _wrong(error, certificate, key) from error
    return context


def _check(file: Path, field: Field) -> None:
    """Raise CertificateError with the reason if a file can't be read: OpenSSL names neither."""
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        raise CertificateError(field, f"{file}: {error.strerror or error}") from error


def _no_passphrase() -> str:
    raise CertificateError("key", "it is encrypted: give one without a passphrase, in a file that only Holdfast reads")


def _wrong(error: Exception, certificate: Path, key: Path) -> CertificateError:
    if isinstance(error, CertificateError):
        return CertificateError(error.field, f"{key}: {error}")
    reason = getattr(error, "reason", None) or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return CertificateError("key", f"{key}: not the key of {certificate}, or of the first certificate in it")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except (OSError, ValueError):
        return CertificateError("certificate", f"{certificate}: holds no certificate in PEM ({reason})")
    return CertificateError("key", f"{key}: holds no private key in PEM ({reason})")


def _stamp(file: Path) -> Stamp:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
