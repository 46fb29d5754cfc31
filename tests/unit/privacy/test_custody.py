import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import PrivacyError
from holdfast.privacy.custody import Custody, open_custody
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.settings import PrivacySettings
from keyrings import ADA, Ticking


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation without the extra."""
    ciphers._library.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    yield
    ciphers._library.cache_clear()


def opened(directory: Path, seal: bool | None = None) -> Custody:
    return open_custody(PrivacySettings(seal=seal), directory, directory, Ticking())


def test_with_the_extra_everything_is_sealed_by_default(tmp_path: Path) -> None:
    custody = opened(tmp_path)
    assert custody.sealer is not None
    assert custody.sealer.sealing
    sealed = custody.sealer.seal(ADA, b"words", b"here")
    custody.keyring.close()
    again = opened(tmp_path)
    assert again.sealer is not None
    assert again.sealer.open(ADA, sealed, b"here") == b"words"
    again.keyring.close()


def test_what_was_sealed_can_be_opened_when_sealing_is_turned_off(tmp_path: Path) -> None:
    custody = opened(tmp_path)
    sealed = custody.sealer.seal(ADA, b"words", b"here")
    custody.keyring.close()
    off = opened(tmp_path, seal=False)
    assert not off.sealer.sealing
    assert off.sealer.open(ADA, sealed, b"here") == b"words"
    off.keyring.close()


@pytest.mark.usefixtures("bare")
def test_without_the_extra_nothing_is_sealed_and_erasures_are_recorded(tmp_path: Path) -> None:
    custody = opened(tmp_path)
    assert (custody.sealer, custody.master) == (None, None)
    custody.keyring.erasures.begin(ADA)
    assert custody.keyring.erased_at(ADA) is not None
    assert not (tmp_path / "master.key").exists()
    custody.keyring.close()


def test_the_extra_can_be_installed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setattr(ciphers, "available", lambda: False)
        custody = opened(tmp_path)
        custody.keyring.erasures.begin(ADA)
        custody.keyring.close()
    later = opened(tmp_path)
    assert later.sealer.open(ADA, later.sealer.seal(ADA, b"words", b"here"), b"here") == b"words"
    assert later.keyring.erased_at(ADA) is not None, "and what was erased before is still known"
    later.keyring.close()
    (tmp_path / "master.key").unlink()
    with pytest.raises(PrivacyError, match="the master key is gone"):
        opened(tmp_path)


@pytest.mark.usefixtures("bare")
def test_sealing_that_is_asked_for_needs_the_extra(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'pip install "holdfast\[custody\]"'):
        opened(tmp_path, seal=True)
    assert list(tmp_path.iterdir()) == []


def test_sealing_never_stops_because_the_extra_is_gone(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    custody = opened(tmp_path)
    custody.sealer.prepare([ADA])
    custody.keyring.close()
    request.getfixturevalue("bare")
    with pytest.raises(PrivacyError, match=r"was sealed until now.*or say \[privacy\] seal = false"):
        opened(tmp_path)
    opened(tmp_path, seal=False).keyring.close()


def test_the_settings_say_where_the_master_key_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a" * 7)
    (tmp_path / "key").chmod(0o600)
    table = {"seal": True, "master_key": {"file": "key"}}
    settings = msgspec.convert(table, PrivacySettings)
    with pytest.raises(PrivacyError, match="key is not a master key"):
        open_custody(settings, tmp_path, tmp_path, Ticking())
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"sael": True}, PrivacySettings)
