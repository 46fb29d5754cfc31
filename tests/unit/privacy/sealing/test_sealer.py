import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.errors import PrivacyError
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.sealing.ciphers import Altered
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.sealer import OVERHEAD_BYTES, Destroyed, Sealer, owner_of
from keyrings import ADA, BOB, keyring

HERE = b"here"
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Keyring]:
    ring = keyring(tmp_path)
    yield ring
    ring.close()


@pytest.fixture
def sealer(ring: Keyring) -> Sealer:
    return Sealer(ring)


@given(data=st.binary(max_size=200), context=st.binary(max_size=20), owner=st.text(max_size=10))
@shared
def test_what_is_sealed_can_be_opened_where_it_was_sealed(
    sealer: Sealer, data: bytes, context: bytes, owner: str
) -> None:
    try:
        owner.encode()
    except UnicodeEncodeError:
        with pytest.raises(PrivacyError, match="not valid Unicode"):
            sealer.seal(owner, data, context)
        return
    sealed = sealer.seal(owner, data, context)
    assert len(sealed) == len(data) + OVERHEAD_BYTES
    assert sealer.open(owner, sealed, context) == data


@given(data=st.binary(min_size=1, max_size=60), place=st.floats(0, 1, exclude_max=True))
@shared
def test_a_single_bit_that_changed_is_found(sealer: Sealer, data: bytes, place: float) -> None:
    sealed = bytearray(sealer.seal(ADA, data, HERE))
    bit = int(place * len(sealed) * 8)
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PrivacyError):
        sealer.open(ADA, bytes(sealed), HERE)


def test_every_single_bit_that_changed_is_found(sealer: Sealer) -> None:
    sealer.prepare([f"{number:032x}" for number in range(20)])  # so that other numbers have keys
    good = sealer.seal(ADA, b"words", HERE)
    for bit in range(len(good) * 8):
        sealed = bytearray(good)
        sealed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PrivacyError):
            sealer.open(ADA, bytes(sealed), HERE)


@given(context=st.binary(max_size=20), owner=st.text("ab0:", max_size=6))
@shared
def test_another_context_or_owner_is_refused(sealer: Sealer, context: bytes, owner: str) -> None:
    sealed = sealer.seal("tenant:a", b"words", HERE)
    if (owner, context) != ("tenant:a", HERE):
        with pytest.raises(PrivacyError):
            sealer.open(owner, sealed, context)


def test_sealed_data_of_one_owner_is_nothing_to_another(sealer: Sealer) -> None:
    sealed, _ = sealer.seal(ADA, b"words", HERE), sealer.seal(BOB, b"words", HERE)
    with pytest.raises(PrivacyError, match="there is no key 1 of this owner"):
        sealer.open(BOB, sealed, HERE)


@given(data=st.binary(max_size=80))
@shared
def test_what_was_never_sealed_is_refused(sealer: Sealer, data: bytes) -> None:
    sealer.prepare([ADA])
    with pytest.raises(PrivacyError):
        sealer.open(ADA, data, HERE)


def test_every_truncation_is_refused(sealer: Sealer) -> None:
    sealed = sealer.seal(ADA, b"words", HERE)
    for length in range(len(sealed)):
        with pytest.raises(Altered):
            sealer.open(ADA, sealed[:length], HERE)
    with pytest.raises(Altered):
        sealer.open(ADA, sealed + b"\0", HERE)


def test_sealing_twice_never_gives_the_same(sealer: Sealer) -> None:
    assert len({sealer.seal(ADA, b"words", HERE) for _ in range(1000)}) == 1000


def test_sealed_data_shows_nothing_of_what_it_is(sealer: Sealer) -> None:
    sealed = sealer.seal(ADA, b"words " * 50, HERE)
    assert b"words" not in sealed
    assert ADA.encode() not in sealed


def test_what_is_altered_and_what_is_destroyed_is_told_apart(ring: Keyring, sealer: Sealer) -> None:
    sealed = sealer.seal(ADA, b"words", HERE)
    with pytest.raises(Altered, match="has been altered"):
        sealer.open(ADA, sealed, b"there")
    ring.destroy(ADA)
    with pytest.raises(Destroyed, match="destroyed by an erasure"):
        sealer.open(ADA, sealed, HERE)


def test_whose_key_seals_is_the_subjects_else_the_tenants() -> None:
    assert owner_of(ADA, "acme") == owner_of(ADA, None) == ADA
    assert owner_of(None, "acme") == "tenant:acme"
    assert owner_of(None, None) == "tenant:"


def test_without_the_extra_sealing_says_what_to_install(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    ciphers._library.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    try:
        assert not ciphers.available()
        with pytest.raises(PrivacyError, match=r'pip install "holdfast\[custody\]"'):
            Sealer(ring).seal(ADA, b"words", HERE)
    finally:
        ciphers._library.cache_clear()
