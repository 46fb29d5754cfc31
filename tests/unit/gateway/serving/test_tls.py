"""The certificate of the gateway: read, and read anew."""

import logging
import ssl
from pathlib import Path

import pytest

from certificates import Authority, encrypted, place
from holdfast.gateway.serving.tls import Certificate, CertificateError
from holdfast.gateway.settings import TlsSettings

SETTINGS = TlsSettings(certificate="tls/server.pem", key="tls/server.key")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> tuple[Path, Path]:
    (tmp_path / "tls").mkdir()
    pair = tmp_path / "tls/server.pem", tmp_path / "tls/server.key"
    for file, data in zip(pair, authority.sign("first"), strict=True):
        file.write_bytes(data)
    return pair


@pytest.fixture
def certificate(files, tmp_path: Path) -> Certificate:
    return Certificate(SETTINGS, tmp_path)


def name(certificate: Certificate, authority: Authority) -> str:
    """Shake hands in memory, and return the name on what was shown."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificate.context.wrap_bio(to_server, to_client, server_side=True)
    client = authority.context().wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    ((((_, common),),),) = [client.getpeercert()["subject"]]  # type: ignore[index,misc]
    return str(common)


def test_it_is_shown(certificate, authority):
    assert name(certificate, authority) == "first"


def test_nothing_older_than_tls_1_2_is_spoken(certificate):
    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_new_pair_is_taken_once_it_stays_as_it_is(certificate, files, authority, caplog):
    caplog.set_level(logging.INFO)
    new, key = authority.sign("second")
    place(files[0], new)
    certificate.refresh()  # half of it is there: no reason to complain
    assert name(certificate, authority) == "first"
    place(files[1], key)
    certificate.refresh()
    assert name(certificate, authority) == "first"
    certificate.refresh()
    assert name(certificate, authority) == "second"
    certificate.refresh()
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_wrong_pair_leaves_the_old_one_in_use_and_is_told_once(certificate, files, authority, caplog):
    other, _ = authority.sign("other")
    place(files[0], other)
    for _ in range(4):
        certificate.refresh()
    assert name(certificate, authority) == "first"
    (record,) = caplog.records
    assert "not renewed" in record.message
    assert f"{files[1]}: not the key of {files[0]}" in record.message


def test_files_that_are_gone_leave_the_old_pair_in_use_until_they_are_back(certificate, files, authority, caplog):
    for file in files:
        file.unlink()
    for _ in range(3):
        certificate.refresh()
    assert name(certificate, authority) == "first"
    assert len(caplog.records) == 1
    for file, data in zip(files, authority.sign("second"), strict=True):
        file.write_bytes(data)
    certificate.refresh()
    certificate.refresh()
    assert name(certificate, authority) == "second"


@pytest.mark.parametrize(
    ("file", "spoil", "field", "reason"),
    [
        (0, None, "certificate", "No such file"),
        (1, None, "key", "No such file"),
        (0, lambda data: b"not a certificate", "certificate", "holds no certificate in PEM"),
        (1, lambda data: b"not a key", "key", "holds no private key in PEM"),
        (0, lambda data: b"", "certificate", "holds no certificate in PEM"),
        (0, lambda data: data.replace(b"M", b"N", 9), "certificate", "holds no certificate in PEM"),
        (1, encrypted, "key", "it is encrypted: give one without a passphrase"),
    ],
)
def test_files_that_are_no_certificate_and_its_key_are_named(files, tmp_path, file, spoil, field, reason):
    data = files[file].read_bytes()
    files[file].unlink()
    if spoil is not None:
        files[file].write_bytes(spoil(data))
    with pytest.raises(CertificateError, match=reason) as refused:
        Certificate(SETTINGS, tmp_path)
    assert refused.value.field == field
    assert str(files[file]) in str(refused.value)


def test_an_error_quotes_nothing_of_the_key(files, tmp_path):
    secret = files[1].read_text().splitlines()[1]
    files[1].write_text(f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(CertificateError) as refused:
        Certificate(SETTINGS, tmp_path)
    assert secret not in str(refused.value)


def test_a_folder_is_no_certificate(files, tmp_path):
    files[0].unlink()
    files[0].mkdir()
    with pytest.raises(CertificateError, match="Is a directory"):
        Certificate(SETTINGS, tmp_path)
