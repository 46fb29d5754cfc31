"""The certificate that callers see, read anew when its files change."""

import logging
import ssl
from pathlib import Path

from holdfast.gateway.settings import TlsSettings

logger = logging.getLogger(__name__)


class Certificate:
    """The certificate in two files of PEM, relative to `base`. `context` is for the server's sockets.

    Raises:
        ValueError: a file can't be read, or they are no certificate and its key.
    """

    def __init__(self, settings: TlsSettings, base: Path) -> None:
        self._files = base / settings.certificate, base / settings.key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._read = self._stamps()
            _load(self.context, *self._files)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise ValueError(f"{_place(error, self._files)}: {_reason(error)}") from error

    def refresh(self) -> None:
        """Take the files if they have changed since they were read. If they are wrong, the old ones stay in use."""
        try:
            stamps = self._stamps()
            if stamps == self._read:
                return
            self._read = stamps
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *self._files)  # a context that failed half-way is of no use
            _load(self.context, *self._files)
        except (OSError, ValueError) as error:
            logger.error("The certificate was not renewed: %s: %s", _place(error, self._files), _reason(error))
            return
        logger.info("The certificate was renewed: %s", self._files[0])

    def _stamps(self) -> list[tuple[int, int, int]]:
        stats = [file.stat() for file in self._files]
        return [(stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats]


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    context.load_cert_chain(certificate, key, password=_no_password)


def _no_password() -> str:
    raise ValueError("the key is encrypted: give one without a passphrase, readable by its owner alone")


def _place(error: Exception, files: tuple[Path, Path]) -> str:
    named = getattr(error, "filename", None)
    return str(named or f"{files[0]} and {files[1]}")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no certificate and its key in PEM ({error.reason or error})"
    return getattr(error, "strerror", None) or str(error)
