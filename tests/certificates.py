"""Certificates for tests: an authority of their own, and what it has signed."""

import datetime
import ipaddress
import os
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ONE_DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates for this machine. `path` is the file that clients trust."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of tests")])
        own = self._builder(self._name, self._key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        own = own.add_extension(usage, True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self.path = directory / "authority.pem"
        self.path.write_bytes(_pem(own.add_extension(identifier, False).sign(self._key, hashes.SHA256())))

    def sign(self, name: str) -> tuple[bytes, bytes]:
        """Return a certificate for this machine under a name of its own, and its key, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = self._builder(subject, key.public_key()).add_extension(x509.SubjectAlternativeName(hosts), False)
        return _pem(builder.add_extension(issuer, False).sign(self._key, hashes.SHA256())), key_pem(key)

    def context(self) -> ssl.SSLContext:
        """Return what a client needs that trusts this authority."""
        return ssl.create_default_context(cafile=self.path)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        return builder.not_valid_before(now - ONE_DAY).not_valid_after(now + ONE_DAY)


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return a key in PEM, encrypted where there is a passphrase."""
    sealing = serialization.NoEncryption() if not passphrase else serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing)


def encrypted(key: bytes) -> bytes:
    """Return a key with a passphrase."""
    loaded = serialization.load_pem_private_key(key, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return key_pem(loaded, b"open sesame")


def place(file: Path, data: bytes) -> None:
    """Put a file in the place of another in one step, as those who renew certificates do."""
    beside = file.with_name(file.name + ".new")
    beside.write_bytes(data)
    os.replace(beside, file)


def connected(url: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a connection over TLS."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return context.wrap_socket(
        socket.create_connection((parts.hostname, parts.port), timeout=10), server_hostname=parts.hostname
    )


def shown(url: str, context: ssl.SSLContext) -> str:
    """Return the name on the certificate that a new connection is shown."""
    with connected(url, context) as connection:
        certificate: Any = connection.getpeercert()
    (((_, name),),) = certificate["subject"]
    return str(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
